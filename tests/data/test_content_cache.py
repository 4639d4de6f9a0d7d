import errno
import os
from multiprocessing import get_context

import pytest
import torch

from milforge.data.content_cache import ContentCache, content_key

KEY = content_key("bag", 1)


def tensors(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        "half": torch.randn(12, 3, generator=rng).half(),
        "no_numpy": torch.randn(12, generator=rng).bfloat16(),
        "numbers": torch.arange(12, dtype=torch.int32),
        "yes": torch.tensor([True, False]),
        "none": torch.zeros(0, 2),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def forbidden():
    raise AssertionError("made again")


@pytest.fixture(params=[False, True])
def cache(tmp_path, request):
    return ContentCache(tmp_path / "new", "data.cache", checksums=request.param)


def test_what_is_made_once_is_found_by_others(cache):
    assert cache.find(KEY) is None
    assert_same(cache.get(KEY, tensors), tensors())
    assert_same(ContentCache(cache.folder, "data.cache").get(KEY, forbidden), tensors())
    assert_same(cache.get(KEY, forbidden), tensors())
    assert_same(cache.find(KEY), tensors())
    assert cache.find(content_key("bag", 2)) is None
    assert [path.name for path in cache.folder.iterdir()] == [f"{KEY}.pt"]


def test_what_is_changed_in_memory_does_not_reach_the_file(cache):
    cache.get(KEY, tensors)["half"].zero_()
    cache.get(KEY, forbidden)["half"].zero_()
    assert_same(cache.get(KEY, forbidden), tensors())


def test_of_a_part_only_that_is_written(cache):
    whole = torch.zeros(1_000_000)
    cache.get(KEY, lambda: {"part": whole[:10]})
    assert (cache.folder / f"{KEY}.pt").stat().st_size < 10_000
    assert torch.equal(cache.get(KEY, forbidden)["part"], whole[:10])


def cut(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_end(path, other):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path, other):
    path.write_bytes(b"")


def foreign(path, other):
    path.write_bytes(b"another file" * 99)


def of_torch(path, other):
    torch.save({"key": KEY}, path)


def of_another_key(path, other):
    path.write_bytes(other.read_bytes())


def unlink(path, other):
    path.unlink()


def of_the_header(path, other):
    path.write_bytes(path.read_bytes().replace(b"torch", b"tarch"))


def of_no_tensors(path, other):
    torch.save({"key": KEY, "tensors": {"x": "text", "y": 3}}, path)


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, cut_the_end, empty, foreign, of_torch, of_another_key, unlink, of_the_header),
        of_no_tensors,
    ],
)
def test_a_damaged_file_is_made_again(cache, damage):
    cache.get(KEY, tensors)
    other = content_key("bag", 2)
    cache.get(other, lambda: tensors(2))
    path = cache.folder / f"{KEY}.pt"
    whole = path.read_bytes()
    damage(path, cache.folder / f"{other}.pt")
    assert cache.find(KEY) is None
    assert_same(cache.get(KEY, tensors), tensors())
    assert path.read_bytes() == whole
    assert_same(cache.get(KEY, forbidden), tensors())


def test_a_file_that_grew_at_its_end_still_holds_what_it_held(cache):
    cache.get(KEY, tensors)
    with (cache.folder / f"{KEY}.pt").open("ab") as file:
        file.write(b"\0")
    assert_same(cache.get(KEY, tensors), tensors())


def test_checksums_find_a_value_that_was_damaged(tmp_path):
    cache = ContentCache(tmp_path, "data.cache", checksums=True)
    cache.get(KEY, lambda: {"x": torch.full((1000,), 7, dtype=torch.uint8)})
    path = tmp_path / f"{KEY}.pt"
    path.write_bytes(path.read_bytes().replace(bytes([7] * 999), bytes([8] * 999)))
    assert set(ContentCache(tmp_path, "data.cache").find(KEY)["x"].tolist()) == {7, 8}
    assert cache.find(KEY) is None


def test_what_cannot_be_made_leaves_nothing(cache):
    with pytest.raises(AssertionError, match="made again"):
        cache.get(KEY, forbidden)
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_without_room_is_told_with_the_key_that_names_it(cache, monkeypatch, number):
    cache.get(KEY, tensors)

    def save(stored, file):
        file.write(b"begun")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(torch, "save", save)
    told = rf"new: expected .* room .* as data\.cache, got: .*{os.strerror(number)}"
    with pytest.raises(OSError, match=told):
        cache.get(content_key("bag", 2), tensors)
    assert [path.name for path in cache.folder.iterdir()] == [f"{KEY}.pt"]
    assert_same(cache.get(KEY, forbidden), tensors())  # what is there can still be read


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        ContentCache(tmp_path / "file", "data.cache")


def use(folder, rounds):
    cache = ContentCache(folder, "data.cache")
    for _ in range(rounds):
        for seed in range(4):
            key = content_key(seed)
            assert_same(cache.get(key, lambda seed=seed: tensors(seed)), tensors(seed))
            if seed % 2:  # as if it had been damaged
                (folder / f"{key}.pt").unlink(missing_ok=True)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_processes_read_and_write_at_once(tmp_path):
    context = get_context("fork")
    processes = [context.Process(target=use, args=(tmp_path, 20)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(tmp_path.glob(".*.partial"))


def test_a_key_tells_all_apart_and_only_that():
    x = torch.arange(6.0).reshape(2, 3)
    different = [
        (),
        ("a",),
        ("a", "b"),
        ("ab",),
        ("b", "a"),
        (None,),
        (1,),
        ("1",),
        (x,),
        (x, None),
        (x + 1,),
        (x.reshape(3, 2),),
        (x.double(),),
        (x.bfloat16(),),
        (x.half(),),
        (torch.tensor(0.0),),
        (torch.zeros(0, 2),),
        (torch.zeros(2, 0),),
    ]
    keys = [content_key(*parts) for parts in different]
    assert len(set(keys)) == len(different)
    assert {len(key) for key in keys} == {32}
    assert content_key(x.T.contiguous().T) == content_key(x.clone().requires_grad_())
