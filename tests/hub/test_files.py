"""Files: metadata, whole downloads, ranges, and what a raw client sees."""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, HfFileSystem, get_hf_file_metadata
from safetensors.numpy import save

from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.raw import fetch, resolve_url, signed_url


def test_metadata_of_a_small_and_of_an_lfs_file(hub):
    repo = hub.state.repositories["org/name"]
    small = get_hf_file_metadata(resolve_url(hub, "org/name", "config.json"), token=False)
    assert (small.commit_hash, small.size) == (repo.commit, len(CONFIG))
    assert small.location.startswith(hub.endpoint + "/api/resolve-cache/")
    large = get_hf_file_metadata(resolve_url(hub, "org/name", "model.safetensors"), token=False)
    assert (large.commit_hash, large.size) == (repo.commit, len(WEIGHTS))
    assert large.location.startswith(hub.storage)
    assert large.etag == repo.at("main").files["model.safetensors"].blob.sha256
    assert large.xet_file_data is None


def test_downloads_of_one_file_and_of_all(hub, api, download, tmp_path):
    assert download() == WEIGHTS
    assert download("config.json") == CONFIG
    folder = Path(api.snapshot_download("org/name", cache_dir=tmp_path / "other"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": CONFIG,
        "model.safetensors": WEIGHTS,
    }
    assert hub.stats.bytes_sent("storage") == 2 * len(WEIGHTS)
    assert all(request.authorization is None for request in hub.stats.requests)


def test_a_token_goes_to_the_hub_and_not_to_the_storage(hub, download):
    hub.add_user("hf_good")
    assert download(token="hf_good") == WEIGHTS
    assert {request.authorization for request in hub.stats.of("hub")} == {"Bearer hf_good"}
    assert {request.authorization for request in hub.stats.of("storage")} == {None}


def test_ranges_of_the_storage(hub):
    url = signed_url(hub, "org/name", "model.safetensors")
    size = len(WEIGHTS)
    for span, start, stop in (((5, 99), 5, 99), ((0, 1), 0, 1), ((size - 9, size + 50), size - 9, size)):
        answer = fetch(url, span=span)
        assert (answer.status, answer.body) == (206, WEIGHTS[start:stop])
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert hub.stats.requests[-1].served == (start, stop)
    assert fetch(url, Range="bytes=-3").body == b"end"
    assert fetch(url, Range=f"bytes={size - 3}-").body == b"end"
    whole = fetch(url)
    assert (whole.status, whole.body, whole.headers["accept-ranges"]) == (200, WEIGHTS, "bytes")
    assert fetch(url, Range="bytes=0-1,5-6").status == 200
    beyond = fetch(url, span=(size, size + 1))
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")


def test_if_range_and_head(hub):
    url = signed_url(hub, "org/name", "model.safetensors")
    etag = fetch(url, method="HEAD").headers["etag"]
    assert fetch(url, span=(0, 9), If_Range=etag).status == 206
    assert fetch(url, span=(0, 9), If_Range='"other"').status == 200
    assert fetch(url, If_None_Match=etag).status == 304
    assert fetch(url, If_Match='"other"').status == 412
    head = fetch(url, method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", str(len(WEIGHTS)))


def test_the_storage_etag_is_not_the_hubs(hub):
    linked = fetch(resolve_url(hub, "org/name", "model.safetensors"), method="HEAD").headers["x-linked-etag"]
    assert fetch(signed_url(hub, "org/name", "model.safetensors"), method="HEAD").headers["etag"] != linked


def test_an_address_that_nobody_signed_is_refused(hub):
    url = signed_url(hub, "org/name", "model.safetensors")
    assert fetch(url.partition("?")[0]).status == 403
    assert fetch(url.replace("Expires=", "Expires=9")).status == 403
    assert fetch(hub.storage + "/nothing").status == 404


def test_small_files_honour_ranges_too(hub):
    location = fetch(resolve_url(hub, "org/name", "config.json")).headers["location"]
    assert location.startswith("/api/resolve-cache/")
    answer = fetch(hub.endpoint + location, span=(2, 12))
    assert (answer.status, answer.body) == (206, CONFIG[2:12])


def test_files_on_disk_and_old_revisions(hub, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(WEIGHTS * 8)
    repo = hub.add("org/disk", files={"sub/big.bin": path})
    first = repo.commit
    repo.commit_files({"sub/big.bin": b"small now"})
    assert fetch(signed_url(hub, "org/disk", "sub/big.bin", first)).body == WEIGHTS * 8
    assert (
        fetch(signed_url(hub, "org/disk", "sub/big.bin", first), span=(300_000, 700_000)).body
        == ((WEIGHTS * 8)[300_000:700_000])
    )
    assert fetch(signed_url(hub, "org/disk", "sub/big.bin")).body == b"small now"


def test_xet_is_offered_beside_the_plain_address(hub, api):
    hub.add("org/xet", files={"model.safetensors": WEIGHTS, "config.json": CONFIG}, xet=True)
    metadata = get_hf_file_metadata(resolve_url(hub, "org/xet", "model.safetensors"), token=False)
    assert len(metadata.xet_file_data.file_hash) == 64
    token = fetch(metadata.xet_file_data.refresh_route)
    assert token.headers["x-xet-cas-url"].startswith(hub.storage)
    assert fetch(metadata.location).body == WEIGHTS
    hashes = {entry.path: entry.xet_hash for entry in api.list_repo_tree("org/xet")}
    assert hashes == {"config.json": None, "model.safetensors": metadata.xet_file_data.file_hash}


def test_readers_of_ranges_of_huggingface_hub(hub, api):
    content = save({"a": np.arange(50_000, dtype=np.float32)})
    hub.add("org/real", files={"model.safetensors": content})
    metadata = api.get_safetensors_metadata("org/real")
    assert metadata.files_metadata["model.safetensors"].tensors["a"].shape == [50_000]
    system = HfFileSystem(endpoint=hub.endpoint, token=False, skip_instance_cache=True)
    with system.open("org/real/model.safetensors", block_size=1 << 16) as file:
        file.seek(100_000)
        assert file.read(50) == content[100_000:100_050]
    assert {request.status for request in hub.stats.of("storage")} == {206}


@pytest.mark.skipif(
    not hasattr(HfApi, "get_sharded_safetensors_metadata"), reason="newer than this huggingface_hub"
)
def test_every_shard_header_in_one_request(hub, api):
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    shard = len(header).to_bytes(8, "little") + header + bytes(8)
    index = b'{"metadata": {"total_size": 8}, "weight_map": {"a": "one.safetensors"}}'
    hub.add("org/shards", files={"one.safetensors": shard, "model.safetensors.index.json": index})
    headers = api.get_sharded_safetensors_metadata("org/shards")
    assert headers.files_metadata["one.safetensors"].tensors["a"].shape == [2]
    assert api.model_info("org/shards").safetensors.total == 2
