"""Near-duplicates: found whatever the order, against the exact Jaccard similarity of every pair."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from callama.contract.messages import Conversation, Message, Tool, ToolCall
from callama.data.minhash import PLACES, SIMILAR, Signatures, said_text, signatures
from callama.data.near import near_groups, near_pairs

WORDS = [f"word{i}" for i in range(400)]


def said(text: str) -> Conversation:
    return Conversation((Message("user", text), Message("assistant", "Yes.")))


def signature(conversation: Conversation) -> Signatures:
    return signatures([said_text(conversation)])[0]


def jaccard(rows: list[str]) -> Callable[[int, int], float]:
    """Of the sets of pairs of neighbouring words of two texts, computed without any sampling."""
    words = [said_text(said(row)).lower().split() for row in rows]
    sets = [{tuple(w[i : i + 2]) for i in range(len(w) - 1)} for w in words]
    return lambda a, b: len(sets[a] & sets[b]) / len(sets[a] | sets[b])


def texts(count: int) -> list[str]:
    """Drafts, each with variants in which zero to twenty words are others."""
    draw = random.Random(5)
    out = []
    for _ in range(count):
        draft = draw.choices(WORDS, k=100)
        for changes in (0, 1, 2, 3, 6, 20):
            variant = list(draft)
            for place in draw.sample(range(100), changes):
                variant[place] = draw.choice(WORDS)
            out.append(" ".join(variant))
    return out


def test_every_pair_of_exact_similarity_0_85_is_in_one_group_and_strangers_are_not() -> None:
    rows = texts(60)
    groups = near_groups(np.stack([signature(said(text)) for text in rows]))
    similarity_of = jaccard(rows)
    pairs = [(similarity_of(a, b), groups[a] == groups[b]) for a, b in combinations(range(len(rows)), 2)]
    alike = [together for similarity, together in pairs if similarity >= SIMILAR]
    assert len(alike) > 250 and all(alike)
    # Groups are chains, so members of one draft may differ much; different drafts share nothing.
    assert not any(together for similarity, together in pairs if similarity < 0.1)


def test_groups_have_the_same_names_in_any_order() -> None:
    signed = np.stack([signature(said(text)) for text in texts(20)])
    order = np.random.default_rng(1).permutation(len(signed))
    straight, shuffled = near_groups(signed), near_groups(signed[order])
    assert (straight[order] == shuffled).all() and 20 < len(set(straight.tolist())) < len(signed)


def test_the_audit_counts_pairs_across_and_nothing_else() -> None:
    rows = texts(30)
    signed = np.stack([signature(said(text)) for text in rows])
    side = np.random.default_rng(2).integers(0, 3, len(rows)).astype(np.int8) - 1
    across = [(a, b) for a, b in combinations(range(len(rows)), 2) if {side[a], side[b]} == {0, 1}]
    estimated = sum((signed[a] == signed[b]).mean() >= SIMILAR for a, b in across)
    assert near_pairs(signed, side) == estimated > 20
    assert near_pairs(signed, np.zeros(len(rows), np.int8)) == 0
    assert near_pairs(signed[:0], side[:0]) == 0 and not len(near_groups(signed[:0]))


def test_what_repeats_everywhere_does_not_make_conversations_alike() -> None:
    tools = (Tool("f", "A very long description of a tool that every conversation shows in just these words"),)
    system = Message("system", "You are a helpful assistant that answers all questions in the same polite words.")
    one, two = (Conversation((system, Message("user", t)), tools) for t in ("How are you today?", "What is it worth?"))
    assert (signature(one) == signature(two)).mean() < 0.2
    bare = Conversation((Message("user", "How are you today?"),))
    assert (signature(one) == signature(bare)).all()


def test_arguments_count_and_texts_without_words_have_signatures() -> None:
    def call(city: str) -> Conversation:
        return Conversation((Message("user", "x"), Message("assistant", None, (ToolCall("f", {"city": city}),))))

    assert (signature(call("Oslo")) != signature(call("Lima"))).any()
    one, two = (Conversation((Message("user", text),)) for text in ("…", "?"))
    assert (signature(one) == signature(one)).all() and (signature(one) != signature(two)).any()


def test_a_text_has_the_same_signature_in_any_company_and_its_case_does_not_count() -> None:
    rows = [*texts(5), "", "one", "one two", "ONE Two"]
    together = signatures(rows)
    assert together.dtype == np.uint32 and together.shape == (len(rows), PLACES)
    assert (together == np.concatenate([signatures([row]) for row in rows])).all()
    assert (together[-1] == together[-2]).all() and (together[-2] != together[-3]).any()
    assert signatures([]).shape == (0, PLACES)


@pytest.mark.parametrize(
    ("draft", "old", "new", "stranger"),
    [
        (
            "请问明天北京的天气怎么样？我打算带孩子去颐和园玩，需要带伞吗？明天北京多云，最高气温二十三度，最低气温十四度，"
            "降水概率只有百分之十，去颐和园玩不需要带伞，但是早晚温差比较大，建议给孩子多带一件外套。",
            "二十三",
            "二十五",
            "今天的股票市场有什么新闻？请给我介绍一下苹果公司的财报情况。苹果公司上季度营收增长了百分之五，超出分析师的预期，"
            "其中服务业务的收入创下历史新高，股价在盘后交易中上涨。",
        ),
        (
            "明日の東京の天気を教えてください。子供と一緒に上野動物園へ行くつもりですが、傘は必要でしょうか。明日の東京は曇りで、"
            "最高気温は二十三度、降水確率は十パーセントですので、傘は必要ありません。",
            "二十三",
            "二十五",
            "株式市場のニュースをお願いします。今日は自動車会社の決算が発表され、営業利益が前の年より大きく増えたため、"
            "株価は取引の終わりにかけて上がりました。",
        ),
        (
            "พรุ่งนี้อากาศที่กรุงเทพเป็นอย่างไรบ้างฉันอยากพาลูกไปเที่ยวสวนสัตว์ต้องเอาร่มไปด้วยไหม"
            "พรุ่งนี้กรุงเทพมีเมฆบางส่วนอุณหภูมิสูงสุดสามสิบสององศามีโอกาสฝนตกน้อยมากจึงไม่จำเป็นต้องเอาร่มไป",
            "สามสิบสอง",
            "สามสิบสี่",
            "ช่วยสรุปข่าวตลาดหุ้นวันนี้ให้หน่อยบริษัทรถยนต์ประกาศผลกำไรเพิ่มขึ้นจากปีก่อนราคาหุ้นจึงปรับตัวขึ้นในช่วงบ่าย",
        ),
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_scripts_without_spaces_have_near_duplicates_too(draft: str, old: str, new: str, stranger: str) -> None:
    assert old in draft
    one, other, third = signatures([draft, draft.replace(old, new), stranger])
    assert SIMILAR <= (one == other).mean() < 1
    assert (one == third).mean() < 0.2
