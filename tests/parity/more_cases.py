"""Cases of model types that came later."""

from tests.parity.models import Case
from tests.parity.more_encoder_cases import MORE_ENCODERS
from tests.parity.more_image_cases import MORE_IMAGES
from tests.parity.more_text_cases import MORE_TEXTS
from tests.parity.towers import TowerCase

MORE: list[Case | TowerCase] = [*MORE_TEXTS, *MORE_ENCODERS, *MORE_IMAGES]
