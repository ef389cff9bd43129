"""Text to search terms, the same way for the keyword index and for questions.

The index (SQLite FTS5) splits at everything that is not a letter or digit, folds case and stems; this module does what
it cannot: it cuts scripts written without spaces into overlapping pairs of characters, so that a part of a sentence can
be found without a dictionary, and it drops the words of a question that carry no topic. It knows no morphology beyond
the English plural, and no word boundaries of Chinese, Japanese or Thai. Nothing here knows the index's query syntax:
terms hold letters, digits and marks only, and whoever builds a query still quotes them.
"""

from __future__ import annotations

import re
import unicodedata

MAX_TERMS = 32  # bounds the cost of one keyword query; a sentence in Chinese gives about one term a character

# Scripts written without spaces between words. Hangul has spaces, but its words carry their particles.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar, Khmer
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana, iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")
_ASCII_SEPARATORS = re.compile(r"[\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+")
_SYMBOL = re.compile(r"[^\w\s]")
_FOREIGN_SYMBOL = re.compile(r"[^\w\s\x00-\x7f]")

_STOP_WORDS = {
    "en": """a about after all also am an and any are as at be been before being but by can could did do does doing
        during each for from further had has have having he her here hers him his how i if in into is it its itself
        just like made many may me more most much my no nor not of off on once only or other our out over own please
        s same shall she should so some such t tell than that the their them then there these they this those through
        to too under until up us very was we were what when where which while who whom whose why will with would you
        your yours d ll m re ve""",
    "de": """aber als am an auch auf aus bei beim bin bis bist da damit dann das dass dem den denn der des die dies
        diese diesem diesen dieser dieses doch du durch ein eine einem einen einer eines er es für gegen hat hatte
        hatten haben habe ich ihm ihn ihr ihre ihrem ihren ihrer im in ist ja jede jeder jedes kann können man mein
        meine mit nach nicht noch nur ob oder ohne sehr sein seine seinem seinen seiner sich sie sind so über um und
        uns unter vom von vor wann war waren warum was welche welchem welchen welcher welches wem wen wenn wer werden
        wessen wie wieso wird wo wodurch woher wohin wofür womit wurde wurden zu zum zur zwischen""",
    "fr": """a à afin ai ainsi après as au aux avec avait avant c ce ces cet cette ceux chez comme comment d dans de
        depuis des dont du elle elles en entre es est et eu étaient était être été eux fait il ils j je l la laquelle
        le lequel les lesquelles lesquels leur leurs lors lui m ma mais me même mes moi mon n ne nos notre nous on
        ont ou où par pas peut plus pour pourquoi qu quand que quel quelle quelles quels qui quoi s sa sans se ses si
        son sont sous sur t ta te tes toi ton tu un une vers vos votre vous y""",
    "es": """a al algo ante antes aunque cada como cómo con contra cual cuál cuáles cuando cuándo cuánta cuántas
        cuánto cuántos de del desde donde dónde durante e el él ella ellas ellos en entre era eran es esa esas ese
        eso esos esta está están estas este esto estos fue fueron ha había han hasta hay la las le les lo los más me
        mi muy nada ni no nos o otra otro para pero por porque qué que quien quién quiénes se según ser si sí sin
        sobre son su sus también tan te tiene tienen tu un una uno unos y ya yo""",
    "it": """a ad al alla alle agli ai anche c che chi ci come con cosa cui d da dal dalla dalle dei del della delle
        dello di dove e è ed era erano fu gli ha hanno i il in io l la le lo loro ma mi nel nella nelle non o per
        perché più qual quale quali quando quanta quante quanti quanto questa questo se si sono su sua sue suo sul
        sulla tra un una uno""",
    "pt": """a ao aos as até com como da das de do dos e é ela ele em entre era foi foram há isso já mais mas me na
        nas no nos não o onde os ou para pela pelo por porque qual quais quando quanta quantas quanto quantos que
        quem são se sem ser seu seus sua suas também tem têm um uma""",
    "nl": """aan al als bij dan dat de deze die dit door een en er had heb heeft hebben het hij hoe hoeveel ik in is
        je kan maar me men met mijn na naar niet nog nu of om onder ook op over te tot uit van veel voor waar waarom
        wanneer waren was wat welk welke wie wordt worden zich zij zijn ze zo zou""",
    "zh": "什么 是什 怎么 么样 为什 么是 如何 哪个 哪些 哪里 哪一 多少 几个 是否 的是 请问 是谁 谁是",
    "ja": "です ます した って いる ある され され れた この その どの 何で なに どこ いつ だれ とは ので から まで",
    "ko": "무엇 엇인 인가 가요 나요 습니 니까 입니 어떤 어떻 떻게 얼마 언제 어디 누가 누구 하는 있는",
}
_STOP_SETS = tuple(frozenset(listed.split()) for listed in _STOP_WORDS.values())


def index_text(text: str) -> str:
    """The form of a text that goes into the keyword index.

    Compatibility forms are unified (NFKC); every run of an unspaced script becomes its overlapping character pairs,
    set apart by spaces (a lone character stays). Symbols beyond ASCII become spaces, because FTS5 takes private-use
    characters (the bullets of many PDF files) for letters. The rest is left to the index's own tokeniser.
    """
    if text.isascii():
        return text
    known = _FOREIGN_SYMBOL.sub(_blank_unless_mark, unicodedata.normalize("NFKC", text))
    return _UNSPACED_RUN.sub(_spaced_pairs, known)


def query_terms(question: str) -> tuple[str, ...]:
    """The topic-bearing terms of a question: lower case, without repetition, in order, at most `MAX_TERMS`.

    Stop words go by the list of the one language that has most of them in this question, because lists of different
    languages collide on content words (English "war", "die"). A question of nothing but stop words keeps them.
    """
    found = tuple(dict.fromkeys(_tokens(question)))
    stops = max(_STOP_SETS, key=lambda listed: sum(token in listed for token in found))
    content = tuple(token for token in found if token not in stops)
    return (content or found)[:MAX_TERMS]


def words(text: str) -> tuple[str, ...]:
    """All words of a text in order, for comparing texts: lower case, no diacritics, English plurals folded."""
    return tuple([_singular(token if token.isascii() else _without_diacritics(token)) for token in _tokens(text)])


def _spaced_pairs(run: re.Match[str]) -> str:
    """The pairs of one run; the outer spaces keep them apart from a neighbouring Latin word."""
    characters = run.group()
    pairs = [characters[i : i + 2] for i in range(len(characters) - 1)] or [characters]
    return f" {' '.join(pairs)} "


def _tokens(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and marks of `index_text`, which is how the index splits too."""
    plain = _ASCII_SEPARATORS.sub(" ", text if text.isascii() else index_text(text))
    return (plain if plain.isascii() else _SYMBOL.sub(_blank_unless_mark, plain)).lower().split()


def _blank_unless_mark(match: re.Match[str]) -> str:
    """Combining marks (vowel signs of Hindi, Thai) are part of a word, although `\\w` does not count all of them."""
    return match.group() if unicodedata.category(match.group()).startswith("M") else " "


def _without_diacritics(token: str) -> str:
    """Latin, Greek and Cyrillic letters without their accents; marks of other scripts are vowels and stay."""
    decomposed = unicodedata.normalize("NFD", token)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f"))


def _singular(word: str) -> str:
    """Plural folding of the S-stemmer (D. Harman, "How effective is suffixing?", JASIS 42(1), 1991, table 1)."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    return word[:-1]
