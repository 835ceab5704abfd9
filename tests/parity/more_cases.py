"""Cases of model types that came later."""

from tests.parity.models import Case
from tests.parity.more_encoder_cases import MORE_ENCODERS
from tests.parity.more_image_cases import MORE_IMAGES
from tests.parity.more_image_text_cases import MORE_IMAGE_TEXTS
from tests.parity.more_pair_cases import MORE_PAIRS
from tests.parity.more_speech_cases import MORE_SPEECH
from tests.parity.more_text_cases import MORE_TEXTS
from tests.parity.towers import TowerCase

MORE: list[Case | TowerCase] = [
    *MORE_TEXTS,
    *MORE_ENCODERS,
    *MORE_IMAGES,
    *MORE_IMAGE_TEXTS,
    *MORE_SPEECH,
    *MORE_PAIRS,
]
