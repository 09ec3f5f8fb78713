"""Networks of Keras and TensorFlow: one training step or one inference as a `tf.function`.

float32, random weights and images, cross-entropy, SGD with momentum 0.9 and a weight decay of 1e-4.
"""

from dataclasses import replace


def keras_senet(name, size, plain):
    import keras_senet

    make = getattr(keras_senet, name)
    if plain:
        make = make.variant(replace(make.spec, se=None))
    return make(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def keras_batch_normalization(name, size, plain):
    """The network of keras_senet, each batch normalisation replaced by Keras' own, from which it
    derives.
    """
    import keras

    from keras_senet.layers import BatchNormalization

    def clone(layer):
        ours = isinstance(layer, BatchNormalization)
        make = keras.layers.BatchNormalization if ours else type(layer)
        return make.from_config(layer.get_config())

    return keras.models.clone_model(keras_senet(name, size, plain), clone_function=clone)


def keras_applications(name, size, plain):
    import keras

    make = getattr(keras.applications, name)
    return make(weights=None, input_shape=(size, size, 3), classifier_activation=None)


def keras_hub(name, size, plain):
    """ResNet-50, whose stride is in the 3x3 convolution."""
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(size, size, 3),
    )
    return keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=1000)


def tf2cv(name, size, plain):
    import tensorflow as tf
    from tf2cv.model_provider import get_model

    model = get_model(name, in_size=(size, size), data_format="channels_last")
    model(tf.zeros((1, size, size, 3)))  # makes the variables
    return model


def classification_models(name, size, plain):
    from classification_models.tfkeras import Classifiers

    return Classifiers.get(name)[0](input_shape=(size, size, 3), weights=None, classes=1000)


def keras_layer(name, size, plain):
    """A model of one convolution with 32 groups, of `keras.layers` or of `keras_senet.layers`."""
    import keras

    import keras_senet.layers

    make = getattr(keras_senet.layers if name == "GroupedConv2D" else keras.layers, name)
    images = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(128, 1, use_bias=False)(images)
    x = make(128, 3, groups=32, padding="same", use_bias=False)(x)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


def prepare(folder, threads, source, name, mode, batch, size, depth=None, plain=False):
    """A function that does it once. `source` is a function of this module, `mode` "training" or
    "inference"; `name` may have a place for the depth, "SEResNet{}".
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = globals()[source](name.format(depth), size, plain)
    images = tf.random.stateless_normal((batch, size, size, 3), (0, 0))
    return {"training": train, "inference": infer}[mode](model, images)


def infer(model, images):
    import tensorflow as tf

    run = tf.function(lambda images: model(images, training=False))
    return lambda: float(run(images)[0, 0])


def train(model, images):
    """A step of Keras 3 or of tf-keras: the model's library says which."""
    import tensorflow as tf

    keras = _library_of(model)
    variables = model.trainable_variables
    values = variables if keras.__name__ == "tf_keras" else [v.value for v in variables]
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(variables)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        decayed = [
            gradient + 1e-4 * value if len(value.shape) > 1 else gradient
            for gradient, value in zip(tape.gradient(loss, values), values, strict=True)
        ]
        optimizer.apply_gradients(zip(decayed, variables, strict=True))
        return loss

    labels = tf.range(len(images)) % model(images[:1]).shape[-1]
    return lambda: float(step(images, labels))


def _library_of(model):
    import importlib

    names = [each.__module__.split(".")[0] for each in type(model).__mro__]
    return importlib.import_module("tf_keras" if "tf_keras" in names else "keras")
