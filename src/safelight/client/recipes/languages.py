"""What a poster's prompt and its check need to know of a language.

Owns the table: the name, the script, and which family of type to ask for. Families are named as
designers know them; a model that has seen many posters set in them keeps to their shapes.
Source Han Sans is published as Noto Sans CJK too; the faces differ by region.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight.client.recipes.errors import BadRecipe


@dataclass(frozen=True)
class Script:
    """A writing system, and how to ask for its letters."""

    name: str
    #: The family of type to name in a prompt.
    font: str
    #: What else a typesetter of that script minds; may be empty.
    advice: str = ""


@dataclass(frozen=True)
class Language:
    """A language that posters are made in. `code` is a BCP 47 tag."""

    code: str
    name: str
    script: Script


_LATIN = Script("Latin", "Source Sans")
_VIETNAMESE = Script("Latin", "Source Sans", "every diacritic complete and in its place")
_CYRILLIC = Script("Cyrillic", "Source Sans")
_GREEK = Script("Greek", "Source Sans", "accents in place")
_HANS = Script("Han, simplified", "Source Han Sans SC", "mainland Chinese character forms")
_HANT = Script("Han, traditional", "Source Han Sans TC", "Taiwanese character forms")
_JAPANESE = Script(
    "Japanese", "Source Han Sans JP", "Japanese character forms, kana slightly smaller than kanji"
)
_KOREAN = Script("Hangul", "Source Han Sans KR", "breaks only between words")
_DEVANAGARI = Script(
    "Devanagari", "Noto Sans Devanagari", "an unbroken headline stroke, conjuncts joined"
)
_BENGALI = Script("Bengali", "Noto Sans Bengali", "an unbroken headline stroke, conjuncts joined")
_ARABIC = Script("Arabic", "Noto Sans Arabic", "set from right to left, letters joined")
_HEBREW = Script("Hebrew", "Noto Sans Hebrew", "set from right to left")
_THAI = Script("Thai", "Noto Sans Thai", "vowel and tone marks stacked, not clipped")

_TABLE: tuple[tuple[str, str, Script], ...] = (
    ("ar", "Arabic", _ARABIC),
    ("bg", "Bulgarian", _CYRILLIC),
    ("bn", "Bengali", _BENGALI),
    ("cs", "Czech", _LATIN),
    ("da", "Danish", _LATIN),
    ("de", "German", _LATIN),
    ("el", "Greek", _GREEK),
    ("en", "English", _LATIN),
    ("es", "Spanish", _LATIN),
    ("fa", "Persian", _ARABIC),
    ("fi", "Finnish", _LATIN),
    ("fil", "Filipino", _LATIN),
    ("fr", "French", _LATIN),
    ("gu", "Gujarati", Script("Gujarati", "Noto Sans Gujarati", "conjuncts joined")),
    ("he", "Hebrew", _HEBREW),
    ("hi", "Hindi", _DEVANAGARI),
    ("hr", "Croatian", _LATIN),
    ("hu", "Hungarian", _LATIN),
    ("id", "Indonesian", _LATIN),
    ("it", "Italian", _LATIN),
    ("ja", "Japanese", _JAPANESE),
    ("ko", "Korean", _KOREAN),
    ("mr", "Marathi", _DEVANAGARI),
    ("ms", "Malay", _LATIN),
    ("nl", "Dutch", _LATIN),
    ("no", "Norwegian", _LATIN),
    ("pl", "Polish", _LATIN),
    ("pt", "Portuguese", _LATIN),
    ("pt-BR", "Brazilian Portuguese", _LATIN),
    ("ro", "Romanian", _LATIN),
    ("ru", "Russian", _CYRILLIC),
    ("sk", "Slovak", _LATIN),
    ("sv", "Swedish", _LATIN),
    ("sw", "Swahili", _LATIN),
    ("ta", "Tamil", Script("Tamil", "Noto Sans Tamil")),
    ("te", "Telugu", Script("Telugu", "Noto Sans Telugu", "conjuncts joined")),
    ("th", "Thai", _THAI),
    ("tr", "Turkish", Script("Latin", "Source Sans", "dotted and dotless i kept apart")),
    ("uk", "Ukrainian", _CYRILLIC),
    ("ur", "Urdu", _ARABIC),
    ("vi", "Vietnamese", _VIETNAMESE),
    ("zh", "Simplified Chinese", _HANS),
    ("zh-HK", "Traditional Chinese (Hong Kong)", _HANT),
    ("zh-Hans", "Simplified Chinese", _HANS),
    ("zh-Hant", "Traditional Chinese", _HANT),
    ("zh-TW", "Traditional Chinese (Taiwan)", _HANT),
)
_LANGUAGES = {code.lower(): Language(code, name, script) for code, name, script in _TABLE}


def codes() -> tuple[str, ...]:
    """Return the codes of all languages in the table."""
    return tuple(language.code for language in _LANGUAGES.values())


def language(code: str) -> Language:
    """Return the language of a BCP 47 tag, in any case and with `-` or `_`.

    Raises:
        BadRecipe: it is not in the table.
    """
    found = _LANGUAGES.get(code.strip().lower().replace("_", "-"))
    if found is None:
        raise BadRecipe(
            f"--languages: {code.strip()!r} is not a language that posters know: "
            + ", ".join(codes())
        )
    return found


def font_advice(text: str) -> str | None:
    """Return the family to ask for when `text` has letters beyond Latin; None when it has none.

    Han characters without kana or hangul count as simplified Chinese.
    """
    for script, first, last in _SIGNS:
        if any(first <= ord(char) <= last for char in text):
            return script.font
    return None


# What gives a script away; kana and hangul before the Han characters they share.
_SIGNS: tuple[tuple[Script, int, int], ...] = (
    (_JAPANESE, 0x3041, 0x30FF),
    (_KOREAN, 0xAC00, 0xD7AF),
    (_KOREAN, 0x1100, 0x11FF),
    (_HANS, 0x3400, 0x9FFF),
    (_DEVANAGARI, 0x0900, 0x097F),
    (_BENGALI, 0x0980, 0x09FF),
    (_ARABIC, 0x0600, 0x06FF),
    (_HEBREW, 0x0590, 0x05FF),
    (_THAI, 0x0E00, 0x0E7F),
)
