"""Training and inference on one GPU in bfloat16: keras_senet on JAX, timm in PyTorch.

Images and labels are on the device, and the clock stops when the device has finished.
"""

import functools
from dataclasses import replace

from benchmarks.side import repeat

STEPS = 8
CLASSES = 1000


def prepare_ours(folder, threads, name, mode, batch, size, plain=False):
    import jax
    import jax.numpy as jnp
    import keras

    import keras_senet

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    make = getattr(keras_senet, name)
    if plain:
        make = make.variant(replace(make.spec, se=None))
    model = make(weights=None, input_shape=(size, size, 3), classifier_activation=None)
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3), jnp.bfloat16)
    labels = jax.random.randint(jax.random.key(1), (batch,), 0, CLASSES)
    state = (
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    if mode == "inference":
        predict = jax.jit(lambda *state: model.stateless_call(*state, images, training=False)[0])
        return repeat(STEPS, lambda: predict(*state), jax.block_until_ready)
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

    return repeat(STEPS, train, jax.block_until_ready)


def prepare_peer(folder, threads, name, mode, batch, size, compiled=False):
    from benchmarks.torch_networks import timm, torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    model = timm.create_model(name, num_classes=CLASSES).train(mode == "training")
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(batch, 3, size, size, device=device, dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=device == "cuda")

    def forward():
        with torch.autocast(device, torch.bfloat16):
            return model(images)

    forward = torch.compile(forward) if compiled else forward
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

    return repeat(STEPS, train if mode == "training" else predict, wait)
