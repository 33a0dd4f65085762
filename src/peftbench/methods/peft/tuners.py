"""PEFT's tuners other than LoRA that adapt layers."""

from __future__ import annotations

from functools import partial
from typing import Final

from peftbench.methods.peft import targets as which
from peftbench.methods.peft.adalora import AdaLora
from peftbench.methods.peft.method import PeftMethod

TRAINED_TOKENS: Final = 128
"""Holds the special tokens of BERT (100 to 103) and of XLM-R (0 to 2), so that every batch trains some."""

_tuner = partial(PeftMethod, family="peft")

_LOW_RANK: Final = (
    AdaLora(
        name="adalora",
        family="peft",
        tuner="ADALORA",
        summary="LoRA in singular-value form, ranks moved between layers in training",
        source="peft.AdaLoraConfig, openreview lq62uWRJjiY",
        defaults={"init_r": 12, "target_r": 8, "lora_alpha": 16},
        schedule=lambda total_steps: {"total_step": total_steps},
        ranks=("init_r", "target_r"),
    ),
    _tuner(
        name="deft",
        tuner="DEFT",
        summary="removes a low-rank subspace of the weights and injects another",
        source="peft.DeftConfig, NeurIPS 2025",
        defaults={"r": 8},
    ),
    _tuner(
        name="delora",
        tuner="DELORA",
        summary="LoRA with normalised directions and a trained strength",
        source="peft.DeloraConfig, arXiv 2503.18225",
        defaults={"r": 8},
    ),
    _tuner(
        name="glora",
        tuner="GLORA",
        summary="low-rank terms on weights and biases, scaled and shifted",
        source="peft.GloraConfig, arXiv 2306.07967",
        defaults={"r": 8},
    ),
    _tuner(
        name="gralora",
        tuner="GRALORA",
        summary="LoRA on each block of a grid over the weights",
        source="peft.GraloraConfig, arXiv 2505.20355",
        fit=lambda layers: {"r": layers.rank(32), "alpha": 2 * layers.rank(32)},
        blocks=("gralora_k",),
    ),
    _tuner(
        name="hira",
        tuner="HIRA",
        summary="low-rank update multiplied with the weights",
        source="peft.HiraConfig, openreview TwJrTz9cRS",
        fit=lambda layers: {"r": layers.rank(32)},
    ),
    _tuner(
        name="lily",
        tuner="LILY",
        summary="LoRA whose B matrices are shared between layers by a router",
        source="peft.LilyConfig, arXiv 2407.09946",
        fit=lambda layers: {"r": layers.rank(32)},
        mergeable=False,
    ),
    _tuner(
        name="loha",
        tuner="LOHA",
        summary="Hadamard product of two LoRAs",
        source="peft.LoHaConfig, arXiv 2108.06098",
        defaults={"r": 8},
    ),
    _tuner(
        name="lokr",
        tuner="LOKR",
        summary="Kronecker product of two factors",
        source="peft.LoKrConfig, arXiv 2309.14859",
        defaults={"r": 8},
    ),
    _tuner(
        name="miss",
        tuner="MISS",
        summary="one matrix of r rows, expanded over the input's shards",
        source="peft.MissConfig, arXiv 2409.15371",
        fit=lambda layers: {"r": layers.rank(64)},
    ),
    _tuner(
        name="peanut",
        tuner="PEANUT",
        summary="update generated from the weights by a small network",
        source="peft.PeanutConfig, arXiv 2410.01870",
        fit=lambda layers: {"r": layers.rank(32)},
    ),
    _tuner(
        name="pvera",
        tuner="PVERA",
        summary="VeRA with sampled low-rank activations",
        source="peft.PveraConfig, arXiv 2512.07703",
        fit=lambda layers: {"r": layers.rank(256)},
        ranks=(),  # the shared projections may be wider than the layers
    ),
    _tuner(
        name="randlora",
        tuner="RANDLORA",
        summary="full-rank update from frozen random bases, scaled by trained diagonals",
        source="peft.RandLoraConfig, arXiv 2502.00987",
        fit=lambda layers: {"r": layers.rank(32)},
    ),
    _tuner(
        name="tinylora",
        tuner="TINYLORA",
        summary="a short trained vector, projected into the leading singular directions",
        source="peft.TinyLoraConfig, arXiv 2602.04118",
    ),
    _tuner(
        name="unilora",
        tuner="UNILORA",
        summary="all LoRA weights projected from one short vector",
        source="peft.UniLoraConfig, arXiv 2506.00799",
    ),
    _tuner(
        name="vblora",
        tuner="VBLORA",
        summary="LoRA weights composed from a shared bank of vectors",
        source="peft.VBLoRAConfig, arXiv 2405.15179",
        fit=lambda layers: {"vector_length": layers.divisor(256)},
        blocks=("vector_length",),
    ),
    _tuner(
        name="vera",
        tuner="VERA",
        summary="frozen random projections shared by all layers, scaled by trained vectors",
        source="peft.VeraConfig, arXiv 2310.11454",
        fit=lambda layers: {"r": layers.rank(256)},
        ranks=(),
    ),
)

_ADAMSS: Final = _tuner(
    name="adamss",
    tuner="ADAMSS",
    summary="low-rank updates in clusters of the weights' singular subspace",
    source="peft.AdamssConfig, openreview 8ZdWmpYxT0",
    fit=lambda layers: {"r": layers.rank(100)},
)

_SUBSPACE: Final = (
    _ADAMSS,
    _tuner(
        name="adamss-asa",
        tuner="ADAMSS",
        summary="AdaMSS that prunes subspaces in training, down to half",
        source="peft.AdamssConfig(use_asa), openreview 8ZdWmpYxT0",
        defaults={"use_asa": True, "num_subspaces": 5},
        fit=lambda layers: {"r": layers.rank(100), "asa_target_subspaces": max(1, layers.count * 5 // 2)},
        schedule=lambda total_steps: {  # PEFT's defaults, which are for 1000 steps
            "init_warmup": total_steps // 20,
            "final_warmup": total_steps,
            "mask_interval": max(1, total_steps // 10),
        },
    ),
    _tuner(
        name="frod",
        tuner="FROD",
        summary="a joint decomposition of all layers' weights, sparse rotations trained",
        source="peft.FrodConfig, doi 10.1609/aaai.v40i31.39813",
        defaults={"progressbar": False},
    ),
    _tuner(
        name="osf",
        tuner="OSF",
        summary="trains the low singular directions, orthogonally to the high ones",
        source="peft.OSFConfig, arXiv 2504.07097",
        targets=which.all_linear,
    ),
    _tuner(
        name="psoft",
        tuner="PSOFT",
        summary="an orthogonal transformation within the principal subspace",
        source="peft.PsoftConfig, openreview FSHrinMArK",
        fit=lambda layers: {"r": layers.rank(32), "psoft_alpha": layers.rank(32)},
    ),
)

_ORTHOGONAL: Final = (
    _tuner(
        name="boft",
        tuner="BOFT",
        summary="orthogonal rotation of the weights by butterfly factors",
        source="peft.BOFTConfig, arXiv 2311.06243",
        fit=lambda layers: {"boft_block_size": layers.divisor(4)},
        blocks=("boft_block_size",),
    ),
    _tuner(
        name="hra",
        tuner="HRA",
        summary="a chain of Householder reflections of the weights",
        source="peft.HRAConfig, arXiv 2405.17484",
        defaults={"r": 8},
    ),
    _tuner(
        name="oft",
        tuner="OFT",
        summary="block-diagonal orthogonal rotation of the inputs",
        source="peft.OFTConfig, arXiv 2306.07280",
        fit=lambda layers: {"oft_block_size": layers.divisor(32)},
        ranks=(),  # here `r` is the number of blocks
        blocks=("oft_block_size",),
    ),
    _tuner(
        name="road",
        tuner="ROAD",
        summary="rotation and scaling of pairs of outputs",
        source="peft.RoadConfig, arXiv 2409.00119",
        fit=lambda layers: {"group_size": layers.divisor(64)},
        blocks=("group_size",),
    ),
)

_SPARSE: Final = (
    _tuner(
        name="c3a",
        tuner="C3A",
        summary="block-circular convolution of the inputs",
        source="peft.C3AConfig, arXiv 2407.19342",
        fit=lambda layers: {"block_size": layers.divisor(256)},
        blocks=("block_size",),
    ),
    _tuner(
        name="fourierft",
        tuner="FOURIERFT",
        summary="a few coefficients of the update's Fourier transform",
        source="peft.FourierFTConfig, arXiv 2405.03003",
        fit=lambda layers: {"n_frequency": min(1000, layers.smallest**2 // 2)},
    ),
    _tuner(
        name="shira",
        tuner="SHIRA",
        summary="a random sparse subset of the weights",
        source="peft.ShiraConfig, arXiv 2406.13175",
        fit=lambda layers: {"r": layers.rank(32, share=4), "random_seed": 0},
    ),
    _tuner(
        name="supertuning",
        tuner="SUPERTUNING",
        summary="the largest hundredth of the weights",
        source="peft.SupertuningConfig, arXiv 2607.09287",
    ),
    _tuner(
        name="waveft",
        tuner="WAVEFT",
        summary="a few coefficients of the update's wavelet transform",
        source="peft.WaveFTConfig, arXiv 2505.12532",
        fit=lambda layers: {"n_frequency": min(2592, layers.smallest**2 // 2)},
    ),
)

_SELECTIVE: Final = (
    _tuner(
        name="beft",
        tuner="BEFT",
        summary="the bias of the value projection",
        source="peft.BeftConfig, arXiv 2509.15974",
        targets=which.values,
    ),
    _tuner(
        name="ia3",
        tuner="IA3",
        summary="scales keys, values and the inside of the feed-forward; in BERT's blocks the attention's result too",
        source="peft.IA3Config, arXiv 2205.05638",
        targets=which.keys_values_and_feed_forward,
    ),
    _tuner(
        name="ln-tuning",
        tuner="LN_TUNING",
        summary="the normalisation layers",
        source="peft.LNTuningConfig, arXiv 2312.11420",
        targets=which.norms,
    ),
    _tuner(
        name="trainable-tokens",
        tuner="TRAINABLE_TOKENS",
        summary=f"the embeddings of the first {TRAINED_TOKENS} tokens",
        source="peft.TrainableTokensConfig",
        targets=which.no_layers,
        fit=lambda _: {"token_indices": list(range(TRAINED_TOKENS))},
    ),
)

METHODS: Final = (*_LOW_RANK, *_SUBSPACE, *_ORTHOGONAL, *_SPARSE, *_SELECTIVE)
