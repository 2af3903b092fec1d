"""The matched twin against all others that there are, counted by the arithmetic of `qrkt list`."""

import itertools
import json
import math

import pytest

from qrkt_keras import cli, zoo
from qrkt_keras.training import Recipe

SMALL = {
    "image_shape": (8, 8, 1),
    "num_classes": 3,
    "patch_size": 4,
    "hidden_dim": 6,
    "num_heads": 2,
    "mlp_dim": 4,
    "num_encoder_blocks": 0,
    "num_ode_blocks": 1,
    "num_decoder_blocks": 0,
    "solver": "rk2",
}


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "small"
    zoo.QViT(**SMALL).save_to_preset(
        folder, recipe=Recipe(epochs=1), data="digits", include_weights=False
    )
    return zoo.read_preset(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_decoder_blocks": 1, "num_encoder_blocks": 1},
        {"template": "hardware_efficient", "num_ansatz_layers": 3, "trainable_encoding": True},
        {"solver": "rk2_gated", "share_weights": True, "num_heads": 3},
        {"num_decoder_blocks": 1, "project_cross_attention": True, "num_heads": 1},
        {"hidden_dim": 2, "num_heads": 2, "mlp_dim": 1},
    ],
    ids=str,
)
def test_no_twin_is_a_better_match(preset, changes):
    model = zoo.from_preset(preset, load_weights=False, **changes)
    widths = zoo.matched_widths(preset, **changes)
    wanted = model.count_params()
    classical = json.loads(json.dumps(model.get_config())) | {"quantum": False}
    old = {name: getattr(model, name) for name in widths}

    def rank(new):
        count, _ = cli._counts("QViT", classical | new)
        change = sum(abs(math.log(new[name] / old[name])) for name in old)
        return max(abs(count - wanted) / wanted, 0.01), change, abs(count - wanted)

    everything = [
        {"hidden_dim": hidden, "mlp_dim": inner, "num_heads": heads}
        for hidden, inner in itertools.product(range(2, 2 * model.hidden_dim + 1), range(1, 300))
        for heads in range(1, hidden + 1)
        if hidden % heads == 0
    ]
    assert rank(widths) == min(map(rank, everything))
    twin = zoo.from_preset(preset, load_weights=False, **{**changes, "quantum": False, **widths})
    assert twin.count_params() == cli._counts("QViT", classical | widths)[0]
    # The smallest has no twin that is smaller.
    if model.hidden_dim > 2:
        assert abs(twin.count_params() - wanted) <= 0.01 * wanted


def test_a_twin_that_matches_is_the_matched_twin():
    # Nearly all weights are the words', of which both have as many.
    preset = zoo.read_preset("qtext_rk1_imdb")
    assert zoo.matched_widths(preset) == {"hidden_dim": 6, "mlp_dim": 4, "num_heads": 2}


def test_every_control_is_a_command_and_the_same_as_arguments():
    for control in zoo.CONTROLS.values():
        words = [*control.words]
        arguments = cli._arguments([words[k + 1] for k in range(len(words)) if words[k] == "--set"])
        arguments |= {cli._FORMS[word][1]: False for word in words if word in cli._FORMS}
        assert arguments == control.arguments
