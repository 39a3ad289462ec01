"""Pixels in: the encoder inside the model and the one that precomputes features are the same, for every kind."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPImageProcessor

from datasets_scripts.features import VisualFeatureExtractor
from modeling_vmhan import VMHANForRelationClassification, VMHANModel, VMHANProcessor
from modeling_vmhan.weights import load_region_encoder, resized


KINDS = ("vgg16", "vgg16_roi_align", "transformers")
SIZES = {"vgg16": 32, "vgg16_roi_align": 96, "transformers": 32}
PIXEL_INPUTS = ("pixel_values", "image_mask", "object_mask", "boxes")
LABELS = {0: "peer", 1: "None", 2: "member_of", 3: "located_in"}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}
BOXES = [[0, 0, 30, 40], [20.5, 10, 80, 59.2], [0, 30, 79, 60], [40, 0, 60, 20]]


def close(first, second, *, is_rounded=False):
    torch.testing.assert_close(first, second, **({"rtol": 2**-6, "atol": 2**-6} if is_rounded else TOLERANCE))


def vision_inputs(inputs):
    return {name: inputs[name] for name in PIXEL_INPUTS if name in inputs}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def has_bfloat16(request, monkeypatch):
    """Whether this machine's CPU says that it computes in bfloat16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": request.param}, raising=False)
    return request.param


@pytest.fixture
def weights(kind, thin_vgg16, make_vision_config, tmp_path):
    """What `vision_weights` and the extractor's `weights` are for this kind: VGG16 by seed, a folder with CLIP's."""
    if kind != "transformers":
        return "random:0"
    folder = tmp_path / "backbone"
    torch.manual_seed(1)
    AutoModel.from_config(make_vision_config()).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def extractor(kind, weights):
    return VisualFeatureExtractor(weights, SIZES[kind], batch_size=3, device="cpu", encoder=kind)


@pytest.fixture
def model(kind, weights, extractor, make_text_config):
    torch.manual_seed(0)
    text_encoder = AutoModel.from_config(make_text_config())
    fields = {"vision_encoder": kind, "vision": load_region_encoder(kind, weights), "id2label": LABELS}
    fields |= {"image_transform": extractor.transform.to_dict(), "initializer_range": 0.2}
    return VMHANForRelationClassification.from_text_encoder(text_encoder, **fields)


@pytest.fixture
def processor(model, tokenizer):
    return VMHANProcessor.for_config(model.config, tokenizer)


@pytest.fixture
def pixel_posts(posts, tmp_path):
    """An image given as Pillow's with four boxes, a post without image, a file that lies on its side with one box."""
    image = Image.radial_gradient("L").resize((80, 60)).convert("RGB")
    image.paste("red", (20, 10, 50, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.crop((0, 0, 50, 60)).rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    visual = [{"image": image, "boxes": BOXES}, {}, {"image": tmp_path / "turned.png", "boxes": [[10, 10, 50, 60]]}]

    def make():
        plain = [{k: v for k, v in post.items() if "features" not in k} for post in posts()[:3]]
        return [{**post, **fields} for post, fields in zip(plain, visual, strict=True)]

    return make


@pytest.fixture
def precomputed(pixel_posts, extractor):
    """The same posts with features instead of pixels: `precomputed("encode")` in float32, "extract" as stored."""

    def make(how):
        posts = pixel_posts()
        inputs = [(post["image"], post["boxes"]) for post in (posts[0], posts[2])]
        if how == "encode":
            features = [(vectors[0], vectors[1:]) for vectors in extractor.encode(inputs)]
        else:
            features = list(extractor.extract(inputs))
        for post, (image_features, object_features) in zip((posts[0], posts[2]), features, strict=True):
            del post["image"]
            post |= {"image_features": image_features, "object_features": object_features}
        return posts

    return make


@torch.no_grad()
def test_the_model_sees_the_precomputed_features(has_bfloat16, model, processor, pixel_posts, precomputed):
    pixels, given = processor(pixel_posts()), processor(precomputed("encode"))
    image, objects = model.vmhan.encode_regions(**vision_inputs(pixels))
    close(image, given["image_features"], is_rounded=has_bfloat16)
    close(objects, given["object_features"], is_rounded=has_bfloat16)
    stored = processor(precomputed("extract"))["object_features"]  # in float16: 11 significant bits
    assert stored.dtype == torch.float16
    torch.testing.assert_close(stored.float(), given["object_features"], rtol=2**-11, atol=1e-6)
    assert objects[0].unique(dim=0).shape[0] == 4  # each region has its own


@torch.no_grad()
def test_pixels_and_precomputed_features_give_the_same_logits(
    has_bfloat16, model, processor, pixel_posts, precomputed
):
    from_pixels = model(**processor(pixel_posts())).logits
    close(model(**processor(precomputed("encode"))).logits, from_pixels, is_rounded=has_bfloat16)
    blank = pixel_posts()
    blank[0]["image"] = Image.new("RGB", (80, 60))
    assert not torch.allclose(model(**processor(blank)).logits, from_pixels, rtol=0, atol=1e-2)
    assert model(**processor(pixel_posts()[1:2])).logits.isfinite().all()


def test_each_image_is_encoded_once_however_many_pairs_and_posts_it_has(kind, model, processor, pixel_posts):
    passes = []
    model.vmhan.vision_encoder.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    for repeat in (1, 5):
        posts = [post for _ in range(repeat) for post in pixel_posts()]
        for post in posts:
            post["pairs"] = post["pairs"] * repeat
        model(**processor(posts))
    assert passes == ([1, 1] if kind == "vgg16_roi_align" else [5, 2])  # an image with four boxes, one with one


@torch.no_grad()
def test_a_pictures_features_are_the_same_to_the_last_bit_in_every_batch(model, processor, pixel_posts):
    encoder, posts = model.vmhan.vision_encoder, pixel_posts()
    alone = model.vmhan.encode_regions(**vision_inputs(processor(posts[2:])))
    encoder.remembered.clear()
    together = model.vmhan.encode_regions(**vision_inputs(processor(posts)))
    assert torch.equal(together[0][2:], alone[0]) and torch.equal(together[1][2:, :1], alone[1])


@torch.no_grad()
def test_objects_that_no_pair_reads_are_not_encoded(kind, model, processor, pixel_posts):
    """The pairs choose one of four objects: the image is encoded with it alone, and the answer is the same."""
    posts, regions = pixel_posts()[:1], []
    for pair in posts[0]["pairs"]:
        pair["objects"] = [2]
    hook = model.vmhan.vision_encoder.register_forward_hook(lambda module, inputs, output: regions.append(len(output)))
    inputs = processor(posts)
    logits = model(**inputs).logits
    hook.remove()
    assert regions == [2]
    image, objects = model.vmhan.encode_regions(**vision_inputs(inputs))
    given = {name: value for name, value in inputs.items() if name not in ("pixel_values", "boxes")}
    close(model(**given, image_features=image, object_features=objects).logits, logits, is_rounded=True)


def test_the_encoder_is_frozen_and_in_evaluation_mode(model, processor, pixel_posts, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    for either in (model, VMHANForRelationClassification.from_pretrained(tmp_path / "saved")):
        encoder = either.train().vmhan.vision_encoder
        assert either.vmhan.training and not any(module.training for module in encoder.modules())
        assert not any(parameter.requires_grad for parameter in encoder.parameters())
    inputs = processor(pixel_posts(), label2id=model.config.label2id)
    vision = vision_inputs(inputs)
    first, second = model.vmhan.encode_regions(**vision), model.vmhan.encode_regions(**vision)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])  # its dropout is off
    model(**inputs).loss.backward()
    assert all(parameter.grad is None for parameter in model.vmhan.vision_encoder.parameters())
    assert model.vmhan.visual_projection.linear.weight.grad.any()


@torch.no_grad()
def test_save_and_load_are_exact(model, processor, pixel_posts, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    loaded, report = VMHANForRelationClassification.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tensors = [{**either.state_dict(), **dict(either.named_buffers())} for either in (model, loaded)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    inputs = VMHANProcessor.from_pretrained(tmp_path / "saved")(pixel_posts())
    assert torch.equal(inputs["pixel_values"], processor(pixel_posts())["pixel_values"])
    assert torch.equal(loaded(**inputs).logits, model(**processor(pixel_posts())).logits)


@torch.no_grad()
@pytest.mark.parametrize("has_bfloat16", [False], indirect=True)
def test_the_vision_weights_are_saved_once_in_bfloat16(has_bfloat16, model, processor, pixel_posts, tmp_path):
    """Also by a device that computes in float32; a folder in which they are float32, as before, is read."""
    logits = model(**processor(pixel_posts())).logits
    assert {parameter.dtype for parameter in model.vmhan.vision_encoder.parameters()} == {torch.float32}
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for name, value in saved.items() if "vision_encoder" in name} == {torch.bfloat16}
    assert saved["classifier.weight"].dtype == torch.float32
    save_file({name: value.float() for name, value in saved.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    before = VMHANForRelationClassification.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in before.vmhan.vision_encoder.parameters()} == {torch.bfloat16}
    assert torch.equal(before(**processor(pixel_posts())).logits, logits)


def test_the_weights_and_what_belongs_to_them_are_taken(kind, weights, extractor, make_text_config):
    text_encoder = AutoModel.from_config(make_text_config())
    vision = load_region_encoder(kind, weights)
    model = VMHANModel.from_text_encoder(text_encoder, vision_encoder=kind, vision=vision)
    expected = extractor.encoder.state_dict()
    assert model.vision_encoder.state_dict().keys() == expected.keys()
    assert all(
        torch.equal(value, expected[name].to(value.dtype)) for name, value in model.vision_encoder.state_dict().items()
    )
    assert model.config.visual_feature_size == extractor.feature_size
    assert model.config.image_transform == resized(extractor.transform, {"transformers": 32}.get(kind, 224)).to_dict()
    again = VMHANModel.from_text_encoder(text_encoder, model.config, vision=vision)
    assert again.config.image_transform == model.config.image_transform
    assert type(again.config.vision_config) is type(model.config.vision_config)


@torch.no_grad()
def test_a_half_precision_model_takes_pixels(model, processor, pixel_posts):
    logits = model.to(torch.bfloat16)(**processor(pixel_posts())).logits
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


def test_the_processors_pixels_have_the_backbones_size(make_config, make_vision_config, tokenizer, pixel_posts):
    fields = {"vision_encoder": "transformers", "visual_feature_size": 32}
    config = make_config(vision_config=make_vision_config(image_size=48), **fields)
    inputs = VMHANProcessor.for_config(config, tokenizer)(pixel_posts())
    assert inputs["pixel_values"].shape == (3, 5, 3, 48, 48) and "boxes" not in inputs


def test_boxes_come_with_the_encoder_that_takes_them(make_config, tokenizer, pixel_posts):
    config = make_config(vision_encoder="vgg16_roi_align", visual_feature_size=4096, image_transform={"size": 64})
    inputs = VMHANProcessor.for_config(config, tokenizer)(pixel_posts())
    assert inputs["pixel_values"].shape == (3, 1, 3, 64, 64) and inputs["boxes"].shape == (3, 4, 4)
    assert inputs["boxes"][0, 1].tolist() == pytest.approx([20 / 80, 10 / 60, 1, 1])
    assert not inputs["boxes"][1].any() and inputs["object_mask"].sum(dim=1).tolist() == [4, 0, 1]


def test_pixels_need_a_vision_encoder(make_model, encode, posts):
    model = make_model()
    inputs = encode(model, posts())
    del inputs["image_features"], inputs["object_features"]
    with pytest.raises(ValueError, match="pixel_values.*vision_encoder=None"):
        model(**inputs, pixel_values=torch.zeros(4, 5, 3, 32, 32))


def test_pixels_and_features_are_not_both_taken(make_model, encode, posts):
    model = make_model()
    with pytest.raises(ValueError, match="give either pixel_values or image_features, received both"):
        model(**encode(model, posts()), pixel_values=torch.zeros(4, 5, 3, 32, 32))


def test_features_of_another_size_than_the_encoders(make_config, make_vision_config):
    config = make_config(vision_encoder="transformers", vision_config=make_vision_config(), visual_feature_size=8)
    with pytest.raises(ValueError, match="visual_feature_size must be 32, .*received 8"):
        VMHANModel(config)


def test_weights_and_encoder_go_together(make_text_config, make_vision_config):
    text_encoder = AutoModel.from_config(make_text_config())
    vision = load_region_encoder("transformers", "random:0", config=make_vision_config())
    for fields in ({"vision_encoder": "vgg16"}, {"vision": vision}):
        with pytest.raises(ValueError, match="vision goes with a vision_encoder.*received"):
            VMHANModel.from_text_encoder(text_encoder, **fields)


@pytest.mark.parametrize(
    ("visual", "match"),
    [
        ({"image": "gone.jpg"}, "post 'everything': .*cannot read the image .*gone.jpg"),
        ({"image": b"junk"}, "post 'everything': image of 4 bytes: expected an image that Pillow can open"),
        ({"boxes": [[5, 5, 5, 9]]}, r"post 'everything': boxes must be .* x1 < x2 .*received list: \[5, 5, 5, 9\]"),
        ({"boxes": [[0, 0, 99, 9]]}, "post 'everything': a box must lie inside its image"),
    ],
)
def test_an_image_or_box_that_cannot_be_read_names_its_post(visual, match, make_processor, pixel_posts):
    posts = pixel_posts()
    posts[0] |= visual
    with pytest.raises(ValueError, match=match):
        make_processor()(posts)
