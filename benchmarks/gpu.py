"""Training and inference on one GPU in bfloat16: keras_senet on JAX beside timm in PyTorch, eager
and compiled, and the plain network beside the one with SE blocks.

    python benchmarks/gpu.py [--network SEResNet50] [--peer seresnet50] [--batch 256] [--size 224]

Images and labels are on the device, and the clock stops when the device has finished. Each side is
a process of its own; they take turns.
"""

import argparse
import functools
from dataclasses import replace

from ratio import measure
from sides import Side, serve

STEPS = 8
CLASSES = 1000


def prepare_ours(name, batch, size, is_plain, training):
    import jax
    import jax.numpy as jnp
    import keras

    import keras_senet

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    make = getattr(keras_senet, name)
    if is_plain:
        make = make.variant(replace(make.spec, se=None))
    model = make(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3), jnp.bfloat16)
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, CLASSES)
    state = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    if not training:
        predict = jax.jit(lambda *state: model.stateless_call(*state, images, training=False)[0])
        return _repeat(lambda: predict(*state), jax.block_until_ready)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)

    def compute_loss(trained, others):
        logits, others = model.stateless_call(trained, others, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits.astype("float32"), from_logits=True
        )
        return losses.mean(), others

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(trained, others, slots):
        differentiate = jax.value_and_grad(compute_loss, has_aux=True)
        (_, others), gradients = differentiate(trained, others)
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return trained, others, slots

    state = jax.tree.map(jnp.copy, (*state, [v.value for v in optimizer.variables]))

    def train():
        nonlocal state
        state = step(*state)
        return state

    return _repeat(train, jax.block_until_ready)


def prepare_peer(name, batch, size, is_compiled, training):
    import timm
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    model = timm.create_model(name, num_classes=CLASSES).train(training)
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=device, dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=device == "cuda")

    def forward():
        with torch.autocast(device, torch.bfloat16):
            return model(images)

    forward = torch.compile(forward) if is_compiled else forward
    compute_loss = torch.nn.CrossEntropyLoss()

    def train():
        optimizer.zero_grad(set_to_none=True)
        compute_loss(forward().float(), labels).backward()
        optimizer.step()

    def wait(_):
        if device == "cuda":
            torch.cuda.synchronize()

    def predict():
        with torch.inference_mode():
            forward()

    return _repeat(train if training else predict, wait)


def _repeat(run, wait):
    """Runs it `STEPS` times, and waits for the device."""

    def repeat():
        for _ in range(STEPS):
            result = run()
        wait(result)
        return 0

    return repeat


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", default="SEResNet50")
    parser.add_argument("--peer", default="seresnet50", help="the network's name in timm")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    own = options.network, options.batch, options.size
    peer = options.peer, options.batch, options.size
    sides = {
        "keras_senet": (prepare_ours, *own, False),
        "plain": (prepare_ours, *own, True),
        "timm": (prepare_peer, *peer, False),
        "compiled": (prepare_peer, *peer, True),
    }
    if options.child:
        name, mode = options.child
        prepare, *arguments = sides[name]
        serve(lambda: None, lambda: prepare(*arguments, mode == "training"))
        return
    environment = {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    given = [f"--{name}={getattr(options, name)}" for name in ("network", "peer", "batch", "size")]
    for mode in ("training", "inference"):
        runs = {n: Side(__file__, n, mode, *given, environment=environment) for n in sides}
        print(f"{mode}, {STEPS} times {options.batch} images of {options.size}x{options.size}")
        measure(list(runs), list(runs.values()), options.rounds, STEPS * options.batch)
        for side in runs.values():
            side.finish()


if __name__ == "__main__":
    main()
