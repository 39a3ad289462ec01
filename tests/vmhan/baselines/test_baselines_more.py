"""MOREformer, HVFormer and TMR: their parts against the formulas, and what each reads beside the other baselines."""

import pytest
import torch
from baseline_posts import DEPTH_SIZE, picture_of, with_details
from datasets import Dataset, DatasetDict
from PIL import Image
from torch import nn

from vmhan.baselines import BASELINES
from vmhan.baselines.moreformer import object_positions
from vmhan.baselines.tmr import BackTranslation
from vmhan.baselines.visual_levels import LevelAttention, LevelMixture
from vmhan.training.posts.generated import with_generated_images


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


class TestMOREformer:
    def test_positions_by_hand(self):
        post = {"image": Image.new("RGB", (40, 20)), "boxes": [[0, 0, 40, 20], [10, 5, 20, 15]]}
        expected = [[0.5, 0.5, 1, 1, 1], [0.375, 0.5, 0.25, 0.5, 0.125]]
        torch.testing.assert_close(object_positions(post), torch.tensor(expected))
        assert object_positions({"boxes": []}).shape == (0, 5)

    def test_the_captions_of_tails_are_read_behind_the_sentence(self, make_baseline, object_post, processor_of):
        """Objects 2 and 0 are tails; each pair points at its own caption, and 1 is not read."""
        processor = processor_of(make_baseline("moreformer"))
        post = {**with_details([object_post()])[0], "object_labels": ["a red car", "Paris", "big stage"]}
        inputs = processor(post)
        rows, tokens = inputs["input_ids"], inputs["image_phrase_tokens"][:, 0]
        words = [processor.tokenizer.decode(row[places[places >= 0]]) for row, places in zip(rows, tokens)]
        assert words == ["big stage", "a red car"]
        assert "paris" not in processor.tokenizer.decode(rows[0])
        assert processor.row_lengths(post) == inputs["attention_mask"].sum(dim=1).tolist()

    def test_a_tail_without_a_caption_has_none(self, make_baseline, object_post, inputs_of, processor_of):
        model = make_baseline("moreformer")
        post = {**with_details([object_post()])[0], "object_labels": ["", "", " "]}
        inputs = processor_of(model)(post)
        assert (inputs["image_phrase_tokens"] < 0).all() and logits(model, inputs).isfinite().all()

    @pytest.mark.parametrize("seen", ["object_depths", "object_positions"])
    def test_depths_and_positions_of_a_pair_s_objects_matter(self, seen, make_baseline, posts, inputs_of):
        model = make_baseline("moreformer")
        inputs = inputs_of(model, posts())
        changed = inputs[seen].clone()
        changed[0, 3] += 1  # of the first post's pairs the second has this object
        differs = (logits(model, inputs) - logits(model, {**inputs, seen: changed})).abs().amax(dim=-1) > 1e-5
        assert differs.tolist() == [False, True, False, False, False, False]

    def test_without_depth_it_says_so_and_reads_none(self, make_baseline, posts, inputs_of):
        model = make_baseline("moreformer", depth_size=0)
        inputs = inputs_of(model, posts())
        assert (model.config.without, make_baseline("moreformer").config.without) == ("depth", None)
        assert not any("depth" in name for name, _ in model.named_parameters())
        expected = logits(model, inputs)
        assert torch.equal(logits(model, {**inputs, "object_depths": inputs["object_depths"] + 1}), expected)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"image": None}, "'short'.*moreformer.*no image.*--embed_images"),
            ({"object_depths": [[0.5] * DEPTH_SIZE]}, "'short'.*object_depths .*2 boxes, received 1"),
            ({"object_depths": []}, f"moreformer .*{DEPTH_SIZE} values, received posts with 0: .*--depth"),
            ({"object_depths": [[0.5] * 3] * 2}, f"moreformer .*{DEPTH_SIZE} values, received posts with 3"),
        ],
    )
    def test_posts_that_lack_something(self, changed, message, make_baseline, posts, processor_of):
        model = make_baseline("moreformer")
        post = {**with_details(posts())[3], **changed}
        with pytest.raises(ValueError, match=message):
            model(**processor_of(model)(post))

    def test_vm_han_takes_posts_with_depths(self, make_processor, posts):
        assert "object_depths" not in make_processor()(with_details(posts()))


class TestHVFormer:
    def test_attention_by_hand(self):
        torch.manual_seed(0)
        layer = LevelAttention(level_size=3, hidden_size=4, num_heads=1, dropout=0.0)
        words, level = torch.randn(1, 2, 4), torch.randn(1, 3, 3)
        weights = (layer.query(words[0]) @ layer.key(level[0, :2]).T / 2).softmax(dim=-1)
        expected = layer.norm(layer.output(weights @ layer.value(level[0, :2])))
        torch.testing.assert_close(layer(words, level, torch.tensor([[True, True, False]]))[0], expected)

    def test_mixture_by_hand(self):
        torch.manual_seed(0)
        mixture = LevelMixture(num_levels=2, hidden_size=4)
        words, first, second = torch.randn(3, 4)
        gates = mixture.router(torch.cat([words, first, second])).softmax(dim=-1)
        expected = gates[0] * words
        for gate, expert, seen in zip(gates[1:], mixture.experts, (first, second), strict=True):
            hidden = nn.functional.gelu(expert[0](torch.cat([words, seen])))
            expected = expected + gate * (words + expert[2](hidden))
        found = mixture(words[None, None], [first[None, None], second[None, None]])
        torch.testing.assert_close(found[0, 0], expected)

    def test_the_levels_are_the_resnet_s_stages(self, make_baseline):
        model = make_baseline("hvformer")
        stages = [stage[-1].bn2.num_features for stage in model.pyramid.stages]
        assert model.level_sizes == stages == [64, 128, 256, 512]


class TestTMR:
    def test_back_translation_by_hand(self):
        torch.manual_seed(0)
        layer = BackTranslation(hidden_size=4)
        visual, text = torch.randn(1, 3, 4), torch.randn(1, 3, 4)
        weights = (layer.query(visual[0, :2]) @ layer.key(text[0, :2]).T / 2).softmax(dim=-1)
        expected = (weights @ layer.value(text[0, :2])).tanh().sum(dim=0)
        mask = torch.tensor([[True, True, False]])
        torch.testing.assert_close(layer(visual, mask, text, mask)[0], expected)

    def test_the_generated_image_matters_to_its_post_alone(self, make_baseline, posts, inputs_of):
        """Also to one that has no picture of its own."""
        model = make_baseline("tmr")
        inputs = inputs_of(model, posts())
        changed = inputs["generated_pixels"].clone()
        changed[1] = changed[1].flip(-1) + 1
        differs = (logits(model, inputs) - logits(model, {**inputs, "generated_pixels": changed})).abs().amax(dim=-1)
        assert (differs > 1e-5).tolist() == [False, False, False, True, False, False]

    def test_a_post_without_a_generated_image(self, make_baseline, posts, processor_of):
        with pytest.raises(ValueError, match="'no image'.*tmr .*--generated_images"):
            processor_of(make_baseline("tmr"))(posts()[1])

    def test_generated_images_are_named_by_their_posts(self, posts, tmp_path):
        ids = {"train": ["a.1", "b"], "test": ["c"]}
        splits = {split: Dataset.from_dict({"id": names}) for split, names in ids.items()}
        for name in ("a.1.png", "b.jpg", "of_nobody.png"):
            picture_of(posts()[0]).save(tmp_path / name)
        message = f"--generated_images {tmp_path}: .*c.png; 1 of 3 posts .*'c'"
        with pytest.raises(ValueError, match=message):
            with_generated_images(DatasetDict(splits), str(tmp_path))
        picture_of(posts()[0]).save(tmp_path / "c.webp")
        found = with_generated_images(DatasetDict(splits), str(tmp_path))
        assert found["train"]["generated_image"] == [str(tmp_path / "a.1.png"), str(tmp_path / "b.jpg")]
        assert "generated_image" in BASELINES["tmr"].inputs
