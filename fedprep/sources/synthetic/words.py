"""Readable words for items and reviews: every topic has its own nouns, adjectives and makers.

The words are common ones or made of syllables; makers and titles name no product that exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.sources.synthetic.truth import Truth, generator

__all__ = ["ACCENTS", "Lexicon", "invented", "item_words", "lexicon_of", "review_words", "take"]

Indices = npt.NDArray[np.int64]

THEMES: tuple[tuple[str, str, str], ...] = (
    (
        "Garden",
        "mossy leafy sunny rooted budding thorny dewy shady",
        "fern trowel hedge orchard tulip compost seedling lawn pergola rake ivy greenhouse "
        "pollen rosebush mulch trellis",
    ),
    (
        "Sea",
        "salty tidal coral stormy briny foaming sunken windward",
        "harbour anchor lighthouse reef dolphin sailor lagoon driftwood oyster compass pier "
        "mermaid trawler whale kelp schooner",
    ),
    (
        "Kitchen",
        "buttery roasted crispy spiced simmering sugared smoky ripe",
        "skillet pancake ladle pepper oven dumpling whisk marmalade noodle garlic teapot "
        "pastry saucepan vinegar spatula cinnamon",
    ),
    (
        "Night Sky",
        "starlit orbital lunar cosmic distant eclipsed glowing weightless",
        "comet telescope galaxy moonbeam rocket nebula astronaut meteor satellite planet "
        "observatory aurora asteroid capsule constellation starship",
    ),
    (
        "Music",
        "melodic rhythmic velvet brassy lyrical tuneful hushed soaring",
        "violin drummer ballad trumpet chorus piano lullaby cello guitar waltz banjo sonata "
        "songbook microphone tambourine orchestra",
    ),
    (
        "Workshop",
        "sturdy riveted oiled hinged welded bolted filed measured",
        "hammer wrench anvil plank chisel pulley sawdust toolbox lathe screwdriver gear "
        "workbench clamp blueprint carpenter drill",
    ),
    (
        "Winter",
        "frosty snowbound icy woollen glacial drifting northern chilled",
        "sledge snowflake mitten icicle fireplace blizzard reindeer scarf glacier cabin skater "
        "igloo avalanche hearth snowman penguin",
    ),
    (
        "Desert",
        "dusty scorched sandy arid sunbaked golden endless parched",
        "cactus camel oasis dune mirage caravan scorpion canyon lizard nomad mesa tumbleweed "
        "sandstorm vulture pyramid adobe",
    ),
    (
        "Athletics",
        "swift muscular winning breathless agile tireless sporty daring",
        "sprinter stadium javelin marathon referee dumbbell goalkeeper racket trophy medal "
        "hurdle gymnast jersey champion treadmill whistle",
    ),
    (
        "Detective",
        "secret masked silent guilty cunning vanished forged hidden",
        "inspector clue alibi burglar fingerprint suspect ransom witness detective blackmail "
        "verdict informant heist courtroom smuggler getaway",
    ),
    (
        "Royal Court",
        "noble jewelled gilded crowned ancient loyal feudal marble",
        "castle knight throne dragon banner sceptre duchess jester moat armour minstrel "
        "drawbridge squire tournament herald dungeon",
    ),
    (
        "Nursery",
        "playful cuddly tiny giggling drowsy pastel bouncing gentle",
        "rattle teddy cradle pram bib crayon toddler stroller kitten puppet nursemaid blanket "
        "storybook playpen duckling pacifier",
    ),
    (
        "Computing",
        "digital wireless encrypted modular binary cached parallel virtual",
        "keyboard router server compiler pixel robot database laptop circuit firmware modem "
        "algorithm sensor terminal processor gadget",
    ),
    (
        "Tailoring",
        "silken quilted pleated knitted embroidered tasselled linen striped",
        "button waistcoat thimble ribbon gown seamstress corset bobbin cardigan needle collar "
        "mannequin petticoat lace hem tweed",
    ),
    (
        "Railway",
        "rattling punctual uphill steaming rusty express coastal tunnelled",
        "locomotive signalman timetable viaduct carriage platform conductor junction sleeper "
        "boiler depot tramway funicular buffer semaphore turntable",
    ),
    (
        "Medicine",
        "healing sterile herbal soothing clinical restful diagnosed careful",
        "surgeon bandage stethoscope ointment pharmacy vaccine nurse thermometer clinic "
        "syringe ambulance lozenge microscope patient remedy midwife",
    ),
)
"""Name, adjectives, nouns. Later topics take a theme again, with invented nouns of their own."""

SYLLABLES = (
    "ba bel cor da del fen gar hul jor ka lim lor mar nel or pim quil ras sol tam ul vel wex zan"
)
ACCENTS = ("Café", "Señorial", "Crème", "Déjà", "Über", "Façade")
"""First words of a few titles: ISO-8859-1 can write them, ASCII cannot."""

N_MAKERS = 5
ACCENTED = 0.03  # share of titles

OPENINGS = (
    "Not what I hoped for.|Sadly a let-down.|It broke my patience.|I want my evening back.",
    "It is all right.|Neither good nor bad.|Decent, with some rough edges.|About what I expected.",
    "I am delighted.|Better than I had hoped.|A joy from start to finish.|I would choose it again.",
)
BODIES = (
    "The {noun} part was poor and the {other} felt careless.|Too little {noun}, far too much {other}.",
    "The {noun} part was fine, the {other} less so.|Some {noun}, some {other}, little else.",
    "The {noun} part is lovely and so is the {other}.|Perfect for anyone who likes {noun} and {other}.",
)
SUMMARIES = (
    "Disappointed|Not for me|Poor|Save your money",
    "Okay|Fair|It does the job|Average",
    "Wonderful|Loved it|Excellent|Just right",
)


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words of all topics: names, and per topic adjectives, nouns and makers (rows are topics)."""

    names: list[str]
    adjectives: npt.NDArray[np.object_]  # (n_topics, 8)
    nouns: npt.NDArray[np.object_]  # (n_topics, 16)
    makers: npt.NDArray[np.object_]  # (n_topics, N_MAKERS)


def invented(number: int) -> str:
    """Returns a pronounceable word that is different for each number."""
    parts, word = SYLLABLES.split(), ""
    number += len(parts)  # two syllables at least
    while number:
        number, digit = divmod(number, len(parts))
        word += parts[digit]
    return word


@lru_cache(maxsize=2)
def lexicon_of(n_topics: int) -> Lexicon:
    """Returns the words of that many topics; no noun belongs to two of them."""
    names, adjectives, nouns = [], [], []
    for topic in range(n_topics):
        again, which = divmod(topic, len(THEMES))
        name, adjective_list, noun_list = THEMES[which]
        names.append(name if not again else f"{name} {again + 1}")
        adjectives.append(adjective_list.split())
        own = [invented(10_000 + topic * 16 + k) for k in range(16)]
        nouns.append(own if again else noun_list.split())
    makers = [
        [invented(t * N_MAKERS + k).capitalize() for k in range(N_MAKERS)] for t in range(n_topics)
    ]
    return Lexicon(
        names=names,
        adjectives=np.array(adjectives, dtype=object),
        nouns=np.array(nouns, dtype=object),
        makers=np.array(makers, dtype=object),
    )


def take(words: npt.NDArray[np.object_] | Sequence[str], *at: Indices) -> pl.Series:
    """Returns `words[at]` as a String series: one word for each index."""
    table = np.asarray(words, dtype=object)
    flat = np.ravel_multi_index(at, table.shape)
    return pl.Series(table.ravel().tolist(), dtype=pl.String).gather(flat)


def item_words(truth: Truth) -> pl.DataFrame:
    """Returns the words of each item, in item order; titles are distinct.

    Columns: `item` i32, `topic` i64, `theme`, `kind` (a noun of the title), `title`,
    `description`, `feature`, `maker`, `cents` i64, `year` i32, `pictured` bool, `noise` u32.
    """
    rng, words = generator(truth.seed, "words"), lexicon_of(truth.size.n_topics)
    n, topic = truth.size.n_items, truth.topic
    n_nouns, n_adjectives = words.nouns.shape[1], words.adjectives.shape[1]
    space = n_adjectives * n_nouns * (n_nouns - 1)
    in_topic = _position_in_group(topic)
    # 1009 is prime: every combination comes once before the next volume begins.
    mixed = (in_topic * 1009 + rng.integers(space)) % space
    noun = mixed // n_adjectives % n_nouns
    second = (noun + 1 + mixed // (n_adjectives * n_nouns)) % n_nouns
    adjective = take(words.adjectives, topic, mixed % n_adjectives).str.to_titlecase()
    accented = pl.Series(rng.random(n) < ACCENTED)
    accents = take(ACCENTS, rng.integers(0, len(ACCENTS), n))
    other = rng.integers(0, n_nouns, (3, n))
    volume = pl.Series(in_topic // space)
    frame = pl.DataFrame(
        {
            "item": np.arange(n, dtype=np.int32),
            "topic": topic,
            "theme": take(np.array(words.names, dtype=object), topic),
            "kind": take(words.nouns, topic, noun).str.to_titlecase(),
            "adjective": adjective,
            "second": take(words.nouns, topic, second).str.to_titlecase(),
            "maker": take(words.makers, topic, rng.integers(0, N_MAKERS, n)),
            "accent": accents.zip_with(accented, pl.repeat("", n, dtype=pl.String, eager=True)),
            "volume": volume,
            "a": take(words.nouns, topic, other[0]),
            "b": take(words.nouns, topic, other[1]),
            "c": take(words.nouns, topic, other[2]),
            "cents": rng.integers(99, 30_000, n),
            "year": rng.integers(1930, 2000, n, dtype=np.int32),
            "pictured": truth.pictured,
            "noise": rng.integers(0, 2**32, n, dtype=np.uint32),
        }
    )
    return frame.select(
        "item",
        "topic",
        "theme",
        "kind",
        _title().alias("title"),
        _description().alias("description"),
        pl.format("Made with {} and {}", "b", "c").alias("feature"),
        "maker",
        "cents",
        "year",
        "pictured",
        "noise",
    )


def _title() -> pl.Expr:
    words = pl.concat_str(
        "accent", "adjective", "kind", "second", separator=" "
    ).str.strip_chars_start()
    return words + pl.when(pl.col("volume") > 0).then(
        pl.format(" {}", pl.col("volume") + 1)
    ).otherwise(pl.lit(""))


def _description() -> pl.Expr:
    return pl.format(
        "A {} {} by {}. It brings {}, {} and {} together; the maker's own choice for {} lovers.",
        pl.col("adjective").str.to_lowercase(),
        pl.col("kind").str.to_lowercase(),
        "maker",
        "a",
        "b",
        "c",
        pl.col("theme").str.to_lowercase(),
    )


def _position_in_group(group: Indices) -> Indices:
    """Returns 0, 1, 2 … for the members of each group in their order."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], group[order])
    position = np.empty(len(group), dtype=np.int64)
    position[order] = np.arange(len(group)) - starts
    return position


def review_words(
    truth: Truth, item: pl.Series, rating: pl.Series, variant: pl.Series
) -> pl.DataFrame:
    """Returns `summary` and `text` of each review: its mood follows the rating, its nouns the topic.

    A function of the arguments alone, so equal rows have equal words.
    """
    noise = variant.to_numpy().astype(np.int64)
    topic = truth.topic[item.to_numpy()]
    stars = rating.fill_null(3.0).to_numpy()
    mood = (stars >= 2.75).astype(np.int64) + (stars >= 3.75)
    openings, summaries = _phrases(OPENINGS), _phrases(SUMMARIES)
    bodies = _bodies(truth.size.n_topics)
    choice = noise >> 4
    opening = take(openings, mood, noise % openings.shape[1])
    body = take(bodies, topic, mood, choice % bodies.shape[2])
    return pl.DataFrame(
        {
            "summary": take(summaries, mood, (noise >> 20) % summaries.shape[1]),
            "opening": opening,
            "body": body,
        }
    ).select("summary", pl.concat_str("opening", "body", separator=" ").alias("text"))


def _phrases(moods: tuple[str, ...]) -> npt.NDArray[np.object_]:
    return np.array([mood.split("|") for mood in moods], dtype=object)


@lru_cache(maxsize=2)
def _bodies(n_topics: int) -> npt.NDArray[np.object_]:
    """Returns (n_topics, 3 moods, sentences): every template with every noun of the topic."""
    words = lexicon_of(n_topics)
    n_nouns = words.nouns.shape[1]
    table = [
        [
            [
                template.format(noun=noun, other=nouns[(k + 5) % n_nouns])
                for template in mood.split("|")
                for k, noun in enumerate(nouns)
            ]
            for mood in BODIES
        ]
        for nouns in words.nouns.tolist()
    ]
    return np.array(table, dtype=object)
