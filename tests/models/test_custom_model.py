"""Architectures of a person's own, of torchvision and of timm: how they are imported and built."""

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src import models
from src.common import model_source
from src.common.errors import UserError
from src.config import RunConfig
from src.data.spec import CIFAR10, DataSpec
from src.models.classifier import Classifier
from tests import own_nets
from tests.own_nets import own_run

GREY = DataSpec("grey", ("a", "b", "c"), 1, 16)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with my_nets.py the current one."""
    monkeypatch.chdir(tmp_path)
    own_nets.write(tmp_path)
    return tmp_path


def build(model: str, data: DataSpec = CIFAR10, **settings: Any) -> Any:
    """Build an architecture that is named."""
    torch.manual_seed(0)
    return models.build(own_run(model, **settings), data)


def refusal(model: str, **settings: Any) -> str:
    """Return the line with which an architecture is refused."""
    with pytest.raises(UserError) as caught:
        build(model, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_state_dict_of_any_module_is_its_own(folder: Path) -> None:
    model = build("my_nets.py:SmallNet", model_option="width=6")
    assert type(model).__name__ == "WrappedModule"
    assert not model.has_features
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    scope: dict[str, Any] = {}
    tree = ast.parse((folder / "my_nets.py").read_text())
    exec(compile(tree, "my_nets.py", "exec"), scope)  # noqa: S102  as a person would import it
    alone = scope["SmallNet"](10, 6)
    alone.load_state_dict(model.state_dict())
    assert list(alone.state_dict()) == list(model.state_dict())
    assert torch.equal(alone.last.weight, model.net.last.weight)
    model.load_state_dict({k: v * 0 for k, v in alone.state_dict().items()})
    assert not model.net.last.weight.any()


def test_classifier_is_taken_as_it_is_and_gets_what_it_asks_for(folder: Path) -> None:
    own_nets.write(folder, own_nets.CLASSIFIER)
    model = build("my_nets.py:Featured", GREY)
    assert type(model).__name__ == "Featured"
    assert model.has_features
    images = torch.zeros(2, *GREY.shape)
    assert model(images).shape == (2, 3)
    assert model.evaluation_batch["cpu"] == 4 * Classifier.evaluation_batch["cpu"]
    assert torch.equal(model.head.weight, build("my_nets.py:Featured", GREY).head.weight)


def test_function_gets_data_and_options_of_every_kind(folder: Path) -> None:
    text = (
        "from torch import nn\n"
        "def make(data, *, depth, wide=False, act='relu', rate=0.0):\n"
        "    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(len(data.classes)))\n"
        "    net.seen = (data.channels, depth, wide, act, rate)\n"
        "    return net\n"
    )
    own_nets.write(folder, text)
    model = build("my_nets:make", GREY, model_option="depth=3,wide=true,act=gelu,rate=1e-2")
    assert model.net.seen == (1, 3, True, "gelu", 0.01)
    assert "it needs depth, which has no default; expected --model_option depth=VALUE" in refusal(
        "my_nets:make"
    )


def test_package_imports_its_own_modules_and_is_replaced_when_edited(folder: Path) -> None:
    own_nets.write(folder, "WIDTH = 5\n", "own_zoo/sizes.py")
    text = "from own_zoo import sizes\nfrom .deep.last import last\n" + own_nets.SMALL.replace(
        "width: int = 4", "width: int = sizes.WIDTH"
    )
    own_nets.write(folder, text, "own_zoo/nets.py")
    own_nets.write(folder, "from ..sizes import WIDTH\nlast = WIDTH\n", "own_zoo/deep/last.py")
    before = list(sys.path)
    assert build("own_zoo.nets:SmallNet").net.last.in_features == 20
    own_nets.write(folder, "WIDTH = 7\n", "own_zoo/sizes.py")  # as long, in the same second
    assert build("own_zoo.nets:SmallNet").net.last.in_features == 28
    assert sys.path == before
    assert not list(folder.rglob("__pycache__"))


def test_models_of_one_package_share_its_modules(folder: Path) -> None:
    own_nets.write(folder, own_nets.SMALL, "own_zoo2/one.py")
    own_nets.write(
        folder, "from own_zoo2.one import SmallNet\nOther = SmallNet\n", "own_zoo2/two.py"
    )
    first = build("own_zoo2.one:SmallNet")
    second = build("own_zoo2.two:Other")
    assert type(first.net) is type(second.net) is type(build("own_zoo2.one:SmallNet").net)


def test_package_does_not_replace_an_imported_one(folder: Path) -> None:
    own_nets.write(folder, own_nets.SMALL, "torchvision/nets.py")
    line = refusal("torchvision.nets:SmallNet")
    assert "torchvision is also the name of an installed package; rename yours" in line
    assert not any(str(folder) in str(finder) for finder in sys.meta_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = 1 / 0\nmake = 1\n", "my_nets.py, line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)\nmake = 1\n", "my_nets.py, line 2: SystemExit: 0"),
        ("import nothing_like_it\nmake = 1\n", "line 1: ModuleNotFoundError: No module named"),
        ("make = 1\n", "it is int; expected a class or a function that builds a model"),
        ("from torch import nn\nmake = nn.Linear(2, 2)\n", "it is Linear; expected a class or a"),
        ("import torch as make\n", "it is module; expected a class or a function"),
        ("def make():\n    return 3\n", "it gives int; expected a torch.nn.Module"),
        (
            "def make():\n    return {}['a']\n",
            "it cannot be built: my_nets.py, line 2: KeyError: 'a'",
        ),
        (
            "from src.models.classifier import Classifier\nclass make(Classifier):\n    pass\n",
            "it is a class without features",
        ),
        ("from x_of_nobody import *\n", "line 1: ModuleNotFoundError"),
        ("from os import *\n", "no make in my_nets.py"),
    ],
)
def test_code_that_gives_no_model_is_one_line(folder: Path, text: str, message: str) -> None:
    own_nets.write(folder, text)
    line = refusal("my_nets.py:make")
    assert message in line
    assert "my_nets.py:make" in line


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    line = refusal("my_nets.py:SmallNet", model_option="widht=3")
    assert "no such option; did you mean width? (known: width, drop)" in line
    assert "num_classes is given by the data" in refusal(
        "my_nets.py:SmallNet", model_option="num_classes=3"
    )
    assert "expected --model_option dropout=VALUE" in refusal("my_nets.py:SmallNet", dropout=0.1)
    with pytest.raises(UserError, match="the options of cnn are flags of their own"):
        models.build(RunConfig(model_type="cnn", model_option="dropout=0.1"), CIFAR10)


def test_source_that_nobody_named_is_not_imported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_nets.write(folder, "open('ran', 'w').close()\nclass Net: pass\n", "evil.py")
    monkeypatch.setattr(model_source, "_trusted", {})
    config = RunConfig(model_type="evil.py:Net", model_digest="0" * 16)
    for call in (lambda: models.build(config, CIFAR10), lambda: models.check(config)):
        with pytest.raises(UserError, match=r"run only if you name it yourself: -m evil\.py:Net"):
            call()
    named = own_run("evil.py:Net")
    with pytest.raises(UserError, match=r"evil\.py is not as it was when this run was trained"):
        models.check(config)
    assert not (folder / "ran").exists()
    models.check(named)
    assert (folder / "ran").exists(), "a person named it"


def test_module_that_wants_three_channels_gets_grey_images_repeated(folder: Path) -> None:
    model = build("my_nets.py:SmallNet", GREY)
    grey = torch.rand(2, *GREY.shape)
    assert torch.equal(model.eval()(grey), model.net(grey.repeat(1, 3, 1, 1)))
    own_nets.write(folder, own_nets.SMALL.replace("Conv2d(3,", "Conv2d(1,"), "grey_nets.py")
    one = build("grey_nets.py:SmallNet", GREY)
    assert one.training
    assert torch.equal(one.eval()(grey), one.net(grey))


def test_torchvision_models_are_built_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: pytest.fail("asked"))
    model = build("torchvision:squeezenet1_1", GREY, model_option="dropout=0.2")
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 3)
    assert "no such model; did you mean squeezenet1_1" in refusal("torchvision:squeezenet1_2")
    for name in ("get_model", "ResNet", "raft_small", "fcn_resnet50"):
        assert "torchvision has no such model" in refusal(f"torchvision:{name}")
    assert "TypeError" in refusal("torchvision:squeezenet1_1", model_option="nothing=1")


TIMM = """
from torch import nn

def list_models():
    return ["tiny_net.v1", "other"]

def create_model(name, *, pretrained, num_classes, in_chans, width=2):
    assert not pretrained
    return nn.Sequential(nn.Conv2d(in_chans, width, 9), nn.Flatten(), nn.LazyLinear(num_classes))
"""


def test_timm_models_are_built_without_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal("timm:tiny_net.v1").endswith("timm is not installed: pip install timm")
    monkeypatch.delitem(sys.modules, "timm")
    own_nets.write(folder, TIMM, "library/timm/__init__.py")
    monkeypatch.syspath_prepend(str(folder / "library"))
    model = build("timm:tiny_net.v1", GREY, model_option="width=3")
    assert type(model).__name__ == "WrappedModule"
    assert model(torch.zeros(2, *GREY.shape)).shape == (2, 3)
    assert isinstance(model.net[0], nn.Conv2d)
    assert model.net[0].out_channels == 3
    assert "timm has no such model (known: tiny_net.v1, other)" in refusal("timm:nothing")
    monkeypatch.delitem(sys.modules, "timm")
