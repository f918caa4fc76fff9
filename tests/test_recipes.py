"""Every recipe in run_config/ is valid, builds the published network, and trains."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from src.common.errors import UserError
from src.common.paths import ROOT
from src.common.yaml_files import read_yaml
from src.config import RunConfig, from_mapping
from src.data.device_dataset import DeviceDataset
from src.models import create, options_of
from src.run import run
from src.runs.run_folder import State
from src.training.trainer import Trainer

PARAMETERS = {
    **{"tinyvgg_run_1": 153_546, "tinyvgg_run_2": 153_546},
    **{"tinyvgg_run_3": 154_058, "tinyvgg_run_4": 154_058},
    **{"cifar10net": 201_230, "cifar10net_2": 60_426, "cifar10net_3": 27_930},
    **{"cifar10net_4": 57_050, "cifar10net_5": 117_386, "cifar10net_6": 73_786},
    **{"cifar10net_7": 201_230, "cifar10net_optim": 216_282},
    **{"cifar10net_optim_augmented": 216_282, "best_cifar10net": 201_230},
    **{"best_resnet": 11_186_442, "best_tinyvgg": 154_058},
    **{"resnet9_onecycle": 6_573_120, "resnet18_transfer": 11_181_642, "vgg6": 34_749_002},
    **{"sweep_cnn": 13_243_146, "sweep_resnet": 11_186_442, "sweep_vit": 92_502_122},
}
FOLDER = ROOT / "run_config"


def recipe(name: str) -> RunConfig:
    path = FOLDER / f"{name}.yaml"
    return from_mapping({"base_dataset_path": "synthetic", **read_yaml(path)}, path.name)


def test_every_recipe_is_listed_here() -> None:
    others = {path.stem for path in FOLDER.glob("*.yaml")} - set(PARAMETERS)
    assert {name for name in others if not name.endswith(("_grid", "_search"))} == set()


@pytest.mark.parametrize("name", PARAMETERS)
def test_recipe_trains_for_a_few_steps(name: str, tmp_path: Path) -> None:
    config = recipe(name)
    assert (
        sum(p.numel() for p in create(config.model_type, **options_of(config)).parameters())
        == (PARAMETERS[name])
    )
    short_run = {"num_epochs": 1, "batch_size": 4, "max_images": 8, "val_size": 1000}
    fixed_format = {"precision": "float32", "memory_format": "contiguous", "weights": "none"}
    short = from_mapping({**config.as_dict(), **short_run, **fixed_format}, name)
    (outcome,) = run([short], runs_dir=tmp_path)
    assert outcome.state == State.DONE
    assert outcome.result
    assert outcome.result["parameters"] == PARAMETERS[name]


def test_onecycle_learning_rate_equals_torch_at_every_step(small_data: DeviceDataset) -> None:
    config = replace(recipe("resnet9_onecycle"), model_type="cifar10net", dropout=None)
    config = replace(config, num_epochs=3, max_images=300, batch_size=64, val_size=100)
    trainer = Trainer(config, small_data).start()
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    steps = config.num_epochs * len(trainer.learner.bounds)
    torch_scheduler = OneCycleLR(
        optimizer,
        max_lr=config.learning_rate,
        total_steps=steps,
        pct_start=config.pct_start,
        div_factor=config.div_factor,
        final_div_factor=config.final_div_factor,
        anneal_strategy="linear",
    )
    logged: list[float] = []
    images_seen = 0
    while trainer.advance():
        if trainer.images_trained > images_seen:
            images_seen = trainer.images_trained
            logged.append(trainer.learner.lr.item())
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < steps:
            torch_scheduler.step()
    assert logged == pytest.approx(expected, rel=1e-9)


def test_unknown_setting_is_named_in_error() -> None:
    with pytest.raises(UserError, match=r"vgg6\.yaml: unknown setting 'momentun'"):
        from_mapping({**read_yaml(FOLDER / "vgg6.yaml"), "momentun": 1}, "vgg6.yaml")
