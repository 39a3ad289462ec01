"""Chat models in process: a tiny Llama and LLaVA-NeXT made on the spot, loaded as any checkpoint is."""

import io
import shutil

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)

from datasets_scripts.nodes.chat import CachedChatModel, ChatAnswer, ChatRequest, request_key
from datasets_scripts.nodes.chat_transformers import TransformersChatModel
from datasets_scripts.nodes.selection import make_selector
from datasets_scripts.schema import new_pair, new_post


SAY = '{"phrases": ["met"]}'
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
IMAGE_TEMPLATE = TEMPLATE.replace(
    "{{ m['content'] }}",
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}",
)


def make_tokenizer(template=None):
    """Like Llama 3's, it has no padding token and pads on the right."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = {"special_tokens": ["<s>", "</s>", "<unk>", "<image>"], "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, **special)
    backend.train_from_iterator(["user assistant", SAY], trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **names)


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def llama_config(tokenizer):
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1}
    return LlamaConfig(**SMALL, **ids, max_position_embeddings=4096)


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """A folder with a Llama that has learnt one answer: SAY, whatever it is asked."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer(TEMPLATE)
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config(tokenizer))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    answer = tokenizer(f"assistant: {SAY}</s>")["input_ids"]
    for step in range(150):
        noise = torch.randint(4, len(tokenizer), (8, 5 + step % 40))
        ids = torch.cat([noise, torch.tensor(answer).expand(8, -1)], dim=1)
        labels = ids.clone()
        labels[:, : noise.shape[1] + 2] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    """A LLaVA-NeXT, which cuts an image into a number of patches that depends on its shape."""
    folder, tokenizer = tmp_path_factory.mktemp("llava"), make_tokenizer()
    grid = {"image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}
    configs = {"vision_config": CLIPVisionConfig(**SMALL, image_size=28, patch_size=14)}
    configs |= {"text_config": llama_config(tokenizer), "vision_feature_layer": -1}
    torch.manual_seed(0)
    config = LlavaNextConfig(**configs, **grid, image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    patches = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    images = LlavaNextImageProcessor(**sizes, **grid)
    LlavaNextProcessor(images, tokenizer, chat_template=IMAGE_TEMPLATE, **patches).save_pretrained(folder)
    return folder


def jpeg(color, size):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="JPEG")
    return buffer.getvalue()


def ask(text, image=None):
    return ChatRequest(({"role": "user", "content": text},), image=image)


def complete(model, requests):
    told = {}
    answers = model.complete(requests, told.__setitem__)
    assert told == dict(enumerate(answers))
    return answers


LONG = "a much longer question that is padded to nothing " * 3


def text_model(folder, **options):
    return TransformersChatModel(str(folder), "text", device="cpu", **options)


def test_a_text_model_answers_in_any_batch_and_is_cut_at_the_limit(llama):
    model = text_model(llama, batch_size=3, max_new_tokens=40)
    assert complete(model, [ask("hi"), ask(LONG), ask("who?"), ask("")]) == [ChatAnswer(SAY)] * 4
    assert model._pipeline.task == "text-generation"
    model.max_new_tokens = 3
    (answer,) = complete(model, [ask("hi")])
    assert answer.truncated and SAY.startswith(answer.text)


def test_an_image_model_answers_alike_alone_and_in_a_batch(llava):
    wide, square = jpeg("red", (60, 20)), jpeg("blue", (50, 52))
    requests = [ask("hi", wide), ask(LONG, square), ask("hi", square), ask(LONG), ask("hi")]
    turns = tuple({"role": role, "content": role} for role in ("user", "assistant", "user"))
    model = TransformersChatModel(str(llava), "image", batch_size=8, max_new_tokens=6, device="cpu")
    requests.append(ChatRequest(turns, image=wide))
    together = complete(model, requests)
    model.batch_size = 1
    assert complete(model, requests) == together
    assert len({answer.text for answer in together}) > 2  # it sees text and image
    assert model._pipeline.task == "image-text-to-text"


def test_the_key_follows_the_weights_and_nothing_is_loaded_for_kept_answers(llama, tmp_path):
    answers = CachedChatModel(text_model(llama), tmp_path / "answers").complete([ask("hi")])
    again = text_model(llama)
    assert CachedChatModel(again, tmp_path / "answers").complete([ask("hi")]) == answers
    assert "_pipeline" not in vars(again)
    weights = shutil.copytree(llama, tmp_path / "other") / "model.safetensors"
    assert text_model(weights.parent).model.rpartition("@")[2] == again.model.rpartition("@")[2]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    changed = text_model(weights.parent)
    assert changed.model.rpartition("@")[2] != again.model.rpartition("@")[2]
    assert request_key(changed, ask("hi")) != request_key(again, ask("hi"))


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_checkpoint_that_cannot_be_used(is_folder, llama, tmp_path):
    with pytest.raises(ValueError, match="image: .*text"):
        complete(text_model(llama), [ask("hi", jpeg("red", (9, 9)))])
    name = str(tmp_path) if is_folder else "nobody/nothing"
    with pytest.raises(OSError, match=f"model: .*received '{name}'"):
        CachedChatModel(text_model(name), tmp_path / "unused").complete([ask("hi")])
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jinja"))
    with pytest.raises(ValueError, match="model: .*chat template"):
        complete(text_model(tmp_path), [ask("hi")])


def test_selection_in_process(llama, llava, tmp_path):
    """The Llama names a word of the sentence; the random LLaVA talks nonsense, is asked twice, and it is recorded."""
    spec = f"transformers:{llama},{llava}"
    selector = make_selector(spec, cache_dir=tmp_path, max_new_tokens=30, device="cpu", batch_size=4)
    boxes = {"boxes": [[0, 0, 5, 5], [5, 5, 20, 20]], "object_labels": ["person", "dog"]}
    post = new_post("p", "Ann met Bob".split(), None, [new_pair([0, 1], [2, 3]), new_pair([2, 3], [0, 1])], **boxes)
    selections = selector.select(post, Image.new("RGB", (40, 30)))
    for selection in selections:
        assert (selection.text_phrases, selection.image_phrases, selection.objects) == ([(1, 2)], [], [])
        assert set(selection.reasons) == {"image_phrases", "objects"}
        assert all("JSON" in reason and "asked twice" in reason for reason in selection.reasons.values())
    assert selector.select(post, Image.new("RGB", (40, 30))) == selections


def test_the_model_is_moved_to_its_device(monkeypatch):
    """In launched processes transformers' pipeline leaves it where it was loaded."""
    moved = []

    class Pipeline:
        class model:
            to = staticmethod(moved.append)

        class tokenizer:
            chat_template, pad_token, padding_side = "{{ x }}", "p", "right"

    monkeypatch.setattr("transformers.pipeline", lambda *_, **__: Pipeline)
    assert TransformersChatModel("name", "text", device="cuda:1")._pipeline is Pipeline
    assert TransformersChatModel("name", "text")._pipeline is Pipeline
    assert moved == ["cuda:1"]
