"""Fused batch norm, activation and max-pool match PyTorch's, and are replaced where they can be."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.config import RunConfig
from src.cpu import compiler, fused_norm
from src.cpu.fused_norm import FusedNorm, fuse_norms
from src.data.device_dataset import DeviceDataset
from src.run import run
from src.runs import restore
from src.training import precision, run_checkpoint
from src.training.compute_format import ComputeFormat
from src.training.trainer import Trainer, TrainerContext
from tests.conftest import skip_or_fail

CPU = torch.device("cpu")
CHANNELS_LAST = torch.channels_last
FUSED = ComputeFormat("float32", "channels_last", fused_norm=True)
BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "norm": list,
    "relu": lambda: [nn.ReLU()],
    "gelu": lambda: [nn.GELU()],
    "relu, pool": lambda: [nn.ReLU(), nn.MaxPool2d(2)],
    "gelu, pool": lambda: [nn.GELU(), nn.MaxPool2d(2)],
}
each_block = pytest.mark.parametrize("name", list(BLOCKS))


def block_of(name: str, channels: int = 24) -> nn.Sequential:
    """Return a batch norm with random parameters and what follows it."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        norm.weight.uniform_(-1, 1)
        norm.bias.normal_()
    return nn.Sequential(norm, *BLOCKS[name]())


def maps(dtype: torch.dtype = torch.float32, size: int = 8, channels: int = 24) -> Tensor:
    """Return maps whose channels have means and deviations of their own."""
    torch.manual_seed(1)
    means, deviations = torch.randn(channels, 1, 1) * 3, torch.rand(channels, 1, 1) + 0.1
    x = torch.randn(6, channels, size, size) * deviations + means
    return x.to(dtype).contiguous(memory_format=CHANNELS_LAST)


def results(block: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """Return the output, the gradients for a fixed gradient of the output, and the buffers."""
    x = x.detach().clone().requires_grad_()
    z = block(x)
    torch.manual_seed(2)
    z.backward(torch.randn(z.shape).bfloat16().to(z.dtype))
    gradients = {name: one.grad for name, one in block.named_parameters()}
    return {"z": z.detach(), "x": x.grad, **gradients, **dict(block.named_buffers())}


def error(exact: Tensor, found: Tensor) -> float:
    """Return the root mean square error relative to the values'."""
    scale = exact.double().square().mean().sqrt()
    return float((exact.double() - found.double()).square().mean().sqrt() / scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_block
def test_it_is_as_exact_as_pytorch(name: str, dtype: torch.dtype) -> None:
    """Errors against float64 are those of PyTorch's operations at most, but for chance."""
    plain, x = block_of(name), maps(dtype)
    fused = fuse_norms(copy.deepcopy(plain))
    assert isinstance(fused[0], FusedNorm)
    assert all(type(module) is nn.Identity for module in fused[1:])
    exact = results(copy.deepcopy(plain).double(), x.double())
    ours, theirs = results(fused, x), results(plain, x)
    rounding = torch.finfo(torch.float32).eps * 10
    for key, found in ours.items():
        assert found.shape == exact[key].shape
        assert error(exact[key], found) <= 1.25 * error(exact[key], theirs[key]) + rounding, key
    assert ours["z"].dtype == dtype
    assert ours["z"].is_contiguous(memory_format=CHANNELS_LAST)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 20, 64, 100])
@pytest.mark.parametrize("name", ["gelu", "relu, pool"])
def test_channels_may_be_few_or_many(name: str, channels: int, dtype: torch.dtype) -> None:
    """Those that fill vectors and those that do not, on maps that are not square."""
    height, width = (6, 10) if "pool" in name else (5, 7)
    x = maps(dtype, 10, channels)[:5, :, :height, :width].contiguous(memory_format=CHANNELS_LAST)
    plain = block_of(name, channels)
    exact = results(copy.deepcopy(plain).double(), x.double())
    ours, theirs = results(fuse_norms(copy.deepcopy(plain)), x), results(plain, x)
    rounding = 1e-6 if dtype == torch.float32 else 2**-7  # a sum of one channel may cancel
    for key, found in ours.items():
        assert error(exact[key], found) <= 1.5 * error(exact[key], theirs[key]) + rounding, key


@each_block
def test_evaluation_uses_running_moments(name: str) -> None:
    plain = block_of(name)
    plain(maps())
    fused = fuse_norms(copy.deepcopy(plain)).eval()
    x = maps(size=4)
    before = {key: value.clone() for key, value in fused.state_dict().items()}
    with torch.no_grad():
        assert error(plain.eval()(x).double(), fused(x)) < 1e-6
    assert all(torch.equal(before[key], value) for key, value in fused.state_dict().items())
    assert torch.equal(plain(x), fused(x)), "with gradients it is PyTorch's"


def test_state_dict_is_that_of_pytorch() -> None:
    plain = block_of("gelu, pool")
    fused = fuse_norms(copy.deepcopy(plain))
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert [name for name, _ in fused.named_parameters()] == ["0.weight", "0.bias"]
    for _ in range(3):
        plain(maps())
        fused(maps())
    assert fused.state_dict()["0.num_batches_tracked"] == 3
    for key, value in plain.state_dict().items():
        assert torch.allclose(fused.state_dict()[key], value, rtol=1e-5)
    plain.load_state_dict(fused.state_dict())


def test_equal_maxima_give_the_gradient_to_the_first() -> None:
    """As in PyTorch. With ReLU most maxima are the zero of several places."""
    plain = block_of("relu, pool")
    with torch.no_grad():
        plain[0].bias.fill_(-1)  # type: ignore[operator]
    fused = fuse_norms(copy.deepcopy(plain))
    x = maps().round()
    ours, theirs = results(fused, x), results(plain, x)
    assert torch.allclose(ours["x"], theirs["x"], atol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@each_block
def test_values_that_are_not_finite_are_not_hidden(name: str, value: float) -> None:
    plain = block_of(name)
    plain(maps())
    fused = fuse_norms(copy.deepcopy(plain))
    x = maps()
    x[2, 5, 3, 3] = value
    for training in (True, False):
        plain.train(training)
        fused.train(training)
        with torch.no_grad():
            theirs, ours = plain(x), fused(x)
        assert torch.equal(theirs.isnan(), ours.isnan())
        assert torch.equal(theirs.isposinf(), ours.isposinf())


def test_results_do_not_depend_on_number_of_threads() -> None:
    """Bit for bit, on maps large enough for several threads."""
    before, found = torch.get_num_threads(), []
    x = maps(size=64)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(fuse_norms(block_of("gelu, pool")), x))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][key], value) for key, value in other.items())


@pytest.mark.parametrize("case", ["contiguous", "odd side", "float64", "bfloat16", "one value"])
def test_other_maps_go_through_pytorch(case: str) -> None:
    plain = block_of("relu, pool")
    fused = fuse_norms(copy.deepcopy(plain))
    x = {
        "contiguous": maps().contiguous(),
        "odd side": maps(size=7),
        "float64": maps(torch.float64),
        "bfloat16": maps(torch.bfloat16),
        "one value": maps(size=1)[:1],
    }[case]
    if case in ("float64", "bfloat16"):  # the parameters too
        plain, fused = plain.to(x.dtype), fused.to(x.dtype)
    if case == "one value":
        with pytest.raises(ValueError, match="more than 1 value"):
            fused(x)
        return
    ours, theirs = results(fused, x), results(plain, x)
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


def test_only_what_it_can_take_is_replaced() -> None:
    kept = [
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm1d(4),
    ]
    assert [type(one) for one in fuse_norms(nn.Sequential(*kept))] == [type(one) for one in kept]
    others = [nn.GELU("tanh"), nn.MaxPool2d(3, 2, 1), nn.LeakyReLU(), nn.MaxPool2d(2)]
    for other in others:
        [norm, after] = fuse_norms(nn.Sequential(nn.BatchNorm2d(4), other))
        assert isinstance(norm, FusedNorm)
        assert after is other
    pool = nn.MaxPool2d(2, ceil_mode=True)
    [_, activation, last] = fuse_norms(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), pool))
    assert type(activation) is nn.Identity
    assert last is pool


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Use an empty cache of compiled kernels."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler.load.cache_clear()
    return tmp_path / "cifar10-sweep" / "kernels"


@pytest.fixture(autouse=True)
def compiled() -> Iterator[None]:
    """Compile the kernels, or skip; afterwards forget what was loaded."""
    if compiler.compiler() is None:
        skip_or_fail("needs a C++ compiler: g++")
    yield
    compiler.load.cache_clear()


def test_kernels_are_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fused_norm.is_available()
    [library] = folder.iterdir()
    assert library.stat().st_mode & 0o777 == 0o600
    written = library.stat().st_mtime_ns
    compiler.load.cache_clear()
    monkeypatch.setenv("CXX", "/bin/false")
    assert fused_norm.is_available()
    assert library.stat().st_mtime_ns == written


def test_library_of_a_faster_process_is_kept(folder: Path) -> None:
    assert fused_norm.is_available()
    [library] = folder.iterdir()
    inode = library.stat().st_ino
    source = Path(compiler.__file__).with_name("fused_norm.cpp")
    compiler._compile(source, library)
    assert library.stat().st_ino == inode
    assert [one.name for one in folder.iterdir()] == [library.name]


def test_library_that_others_can_write_is_not_loaded(folder: Path) -> None:
    assert fused_norm.is_available()
    [library] = folder.iterdir()
    library.unlink()  # not overwritten: this process has it in memory
    library.write_bytes(b"somebody else's code")
    library.chmod(0o666)
    compiler.load.cache_clear()
    assert fused_norm.is_available()
    assert library.stat().st_mode & 0o777 == 0o600
    assert library.read_bytes().startswith(b"\x7fELF")


@pytest.mark.parametrize("command", ["/bin/false", "no-such-compiler"])
def test_without_compiler_it_is_pytorch(
    folder: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CXX", command)
    assert not fused_norm.is_available()
    assert not folder.exists() or list(folder.iterdir()) == []
    plain = block_of("gelu, pool")
    fused = fuse_norms(copy.deepcopy(plain))
    ours, theirs = results(fused, maps()), results(plain, maps())
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    candidates = precision._candidates(replace(config, model_type="cnn"), CPU)
    assert not any(one.fused_norm for one in candidates)


def test_it_is_a_candidate_with_channels_last_alone(config: RunConfig) -> None:
    def fusing(**settings: Any) -> set[str]:
        candidates = precision._candidates(replace(config, **settings), CPU)
        return {one.memory_format for one in candidates if one.fused_norm}

    assert fusing(model_type="cnn") == {"channels_last"}
    assert fusing(model_type="cnn", memory_format="contiguous") == set()
    assert fusing(model_type="cnn", compile=True) == set()
    assert fusing(model_type="vgg6") == set(), "it has no batch norm"


def test_run_records_it_and_resumes_bitwise(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    one = replace(config, precision="float32", memory_format="channels_last", convolution="direct")
    whole = Trainer(one, small_data).start()
    while whole.advance():
        pass
    stopped = Trainer(one, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    while stopped.state.step < 2:
        stopped.advance()
    stopped.save()
    stopped.stop()
    resumed = Trainer(one, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    assert resumed.resumed
    while resumed.advance():
        pass
    assert whole.trained
    assert resumed.trained
    assert whole.trained.numbers["fused_norm"] is resumed.trained.numbers["fused_norm"] is True
    for name, tensor in whole.trained.weights["terminal"].items():
        assert torch.equal(tensor, resumed.trained.weights["terminal"][name]), name


def test_checkpoint_from_before_it_goes_on_without(
    config: RunConfig, small_data: DeviceDataset, tmp_path: Path
) -> None:
    one = replace(config, precision="float32", memory_format="channels_last")
    one = replace(one, convolution="direct", max_images=200)
    trainer = Trainer(one, small_data, TrainerContext(checkpoint_dir=tmp_path)).start()
    saved = trainer._checkpoint()
    assert run_checkpoint.compute_format(saved, CPU) == FUSED
    assert saved.pop("fused_norm")
    assert saved["arithmetic"] == ["float32", "channels_last", "direct"]
    assert run_checkpoint.compute_format(saved, CPU) == replace(FUSED, fused_norm=False)
    trainer.stop()


def test_saved_weights_are_evaluated_with_it(config: RunConfig, tmp_path: Path) -> None:
    one = replace(config, precision="float32", memory_format="channels_last", num_epochs=1)
    [outcome] = run([one], tmp_path)
    assert outcome.result
    assert restore._compute_format(outcome.result, CPU) == FUSED
    del outcome.result["fused_norm"]
    assert restore._compute_format(outcome.result, CPU) == replace(FUSED, fused_norm=False)


def test_unwritable_cache_is_no_error(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    assert not fused_norm.is_available()
