"""Which colours a picture has: from the colours and moods its prompt names, else from its hash.

Owns the word lists and the harmony; the arithmetic is `colour.py`.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from safelight.upstreams.proof.colour import from_oklch, mix, shade, to_oklch
from safelight.upstreams.proof.words import word_table


@dataclass(frozen=True, slots=True)
class Palette:
    """Six hex colours that go together.

    `ground` is the plate, `deep` the darkest, `light` the lightest; `main` and `second` carry the
    picture and `accent` is used sparingly. `dark` says that the plate is dark.
    """

    ground: str
    deep: str
    main: str
    second: str
    accent: str
    light: str
    dark: bool

    @property
    def swatches(self) -> tuple[str, ...]:
        """The five colours that a proof shows in its margin."""
        return (self.deep, self.main, self.second, self.accent, self.light)

    def fade(self, share: float) -> str:
        """Return a tone between `light` (0) and `deep` (1) that passes through `main`."""
        if share < 0.5:
            return mix(self.light, self.main, share * 2)
        return mix(self.main, self.deep, share * 2 - 1)


# moods: ground deep main second accent light. Chosen by eye.
_CURATED = """
warm vintage: #f3e9dc #2b2118 #c8553d #e9a15b #2f6f73 #fbf5ea
fresh nature: #e8efe6 #14302b #2d6a5a #8fb996 #f2a65a #f8faf4
calm cold: #e6edf2 #12263a #2f5d8a #86b3d1 #f26b4e #f7fafc
dark luxury: #15171c #0b0c10 #3a3f4b #8d7b5a #d9b36c #f4ead6
dark neon: #120b2e #0a0619 #5b2bd9 #e0368c #27e0d0 #f3ecff
pastel cute: #fdeff0 #3d2c4a #f2a7b5 #b9c9f2 #f7d488 #fffaf7
sunset warm: #fbd9b5 #2b1640 #d9485f #f58f4f #ffd166 #fff3df
dark night: #0f1b33 #080e1d #24467a #5f86b8 #f4c95d #eef3fb
calm minimal: #efece6 #24221f #8a8478 #c9bfae #b4532a #faf8f4
fresh vivid: #fef6e4 #172c66 #2b59c3 #f582ae #ffc145 #fffdf7
vivid: #fff1e6 #1d1a3d #e63946 #3d5a9e #f6bd3b #fffaf3
dark nature: #0f2a26 #07170f #1f6b57 #7cc6a4 #f3b562 #eef8f1
vintage: #efe3c8 #22333b #3f6c71 #d98e4a #b23a2e #faf3e0
calm pastel: #eeeaf6 #2a2550 #7566b8 #b8aee0 #f29e7d #faf8ff
dark sunset: #2a1a3e #140c24 #8c3b6e #e2695c #ffbf69 #fff0e0
cold minimal: #e9eef0 #17262b #3c7a89 #9fc2cc #e4572e #f8fbfb
"""


def _curated() -> tuple[tuple[frozenset[str], Palette], ...]:
    found = []
    for line in _CURATED.strip().splitlines():
        moods, _, colours = line.partition(": ")
        ground, deep, main, second, accent, light = colours.split()
        dark = to_oklch(ground)[0] < 0.5
        palette = Palette(ground, deep, main, second, accent, light, dark)
        found.append((frozenset(moods.split()), palette))
    return tuple(found)


CURATED = _curated()

# colour: words in English, then in Chinese, Japanese, Korean, Hindi and Bengali
_COLOURS = """
#d7263d: red crimson scarlet ruby | 红 紅 赤 빨강 빨간 붉은 लाल লাল
#8f1d2c: burgundy maroon wine | 酒红 酒紅 ワインレッド 버건디
#f26b4e: coral salmon | 珊瑚 コーラル 산호
#f2762e: orange tangerine | 橙 オレンジ 주황 नारंगी কমলা
#b4532a: rust terracotta copper clay | 陶土 テラコッタ 테라코타
#d9a441: gold golden brass bronze | 金色 黄金 金箔 ゴールド 금색 황금 सुनहरा सुनहरी সোনালি সোনালী
#f6bf26: yellow amber mustard lemon | 黄 黃 노랑 노란 पीला पीली হলুদ
#a3c644: lime chartreuse | 青柠 ライム 라임
#2f9e5b: green | 绿 綠 緑 초록 녹색 हरा हरी সবুজ
#1d6b52: emerald jade forest | 翡翠 エメラルド 에메랄드 পান্না
#7a8450: olive khaki moss sage | 橄榄 オリーブ 올리브
#4cbfa6: mint | 薄荷 ミント 민트
#128c8c: teal | 青绿 ティール 청록
#1fb5c9: turquoise cyan aqua | 青色 シアン 하늘색 फ़िरोज़ी ফিরোজা
#2f6fd0: blue azure cobalt | 蓝 藍 青い 파랑 파란 푸른 नीला नीली নীল
#1f2f5c: navy indigo | 藏青 紺 남색 जामुनी
#7d4fd0: purple violet | 紫 보라 बैंगनी বেগুনি
#b39ddb: lavender lilac | 薰衣草 ラベンダー 라벤더
#d63a9a: magenta fuchsia | 品红 マゼンタ 자홍
#f08bb1: pink rose | 粉色 粉红 粉紅 桃色 ピンク 분홍 गुलाबी গোলাপি
#7a4a2b: brown chocolate coffee | 棕 褐 茶色 갈색 भूरा বাদামি
#cbb592: beige sand tan cream | 米色 ベージュ 베이지
#8b929c: grey gray silver | 灰 银色 銀 グレー 회색 은색 स्लेटी ধূসর
"""

# mood: words. black and white are moods too: they choose the ground.
_MOODS = """
dark: dark black noir moody gothic midnight | 黑 暗 黒 검은 검정 어두운 काला काली কালো
night: night nighttime moonlit starry nocturne | 夜 밤 रात রাত
neon: neon cyberpunk synthwave glow glowing | 霓虹 赛博 ネオン 네온 사이버
pastel: pastel soft gentle candy | 柔和 粉彩 パステル 파스텔
sunset: sunset sunrise dusk dawn twilight | 日落 夕阳 夕陽 黄昏 夕焼け 일몰 노을 सूर्यास्त সূর্যাস্ত
vintage: vintage retro 70s antique nostalgic | 复古 復古 レトロ 복고 레트로 विंटेज
warm: warm cosy cozy autumn fall | 温暖 秋 暖 따뜻 가을 शरद শরৎ
cold: cold cool winter ice icy snow arctic | 冬 雪 冰 氷 겨울 눈꽃 सर्दी শীত
fresh: fresh spring summer bright | 清新 春 夏 봄 여름 वसंत বসন্ত
nature: nature forest garden botanical jungle leaf | 自然 森 숲 자연 जंगल প্রকৃতি
luxury: luxury luxurious elegant premium | 奢华 高级 高級 豪華 고급 럭셔리
minimal: minimal minimalist minimalistic simple clean white |
  极简 極簡 简约 ミニマル 白 미니멀 흰 सफ़ेद সাদা
cute: cute kawaii adorable baby | 可爱 可愛 かわいい 귀여운 प्यारा
vivid: vivid vibrant bold colourful colorful bright | 鲜艳 鮮やか 선명 रंगीन রঙিন
calm: calm quiet peaceful serene zen | 宁静 安静 静か 고요 शांत শান্ত
"""


COLOUR_WORDS = word_table(_COLOURS)
MOOD_WORDS = word_table(_MOODS)
_HEX = re.compile(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})(?![0-9a-z])")


def named_colours(text: str) -> list[str]:
    """Return the hex colours that lower-case `text` names, in the order it names them."""
    found = [(match.start(), match.group()) for match in _HEX.finditer(text)]
    for entry in COLOUR_WORDS:
        at = entry.first_at(text)
        if at is not None:
            found.append((at, entry.name))
    return [colour for _, colour in sorted(found)]


def named_moods(text: str) -> frozenset[str]:
    """Return the moods that lower-case `text` names."""
    return frozenset(entry.name for entry in MOOD_WORDS if entry.first_at(text) is not None)


def _around(colours: list[str], moods: frozenset[str], chance: random.Random) -> Palette:
    """Build a palette whose main colours are the named ones."""
    lightness, chroma, hue = to_oklch(colours[0])
    chroma = max(chroma, 0.02)
    dark = bool(moods & {"dark", "night", "neon"})
    lift = {"pastel": 0.80, "neon": 0.66}.get(next(iter(moods & {"pastel", "neon"}), ""), lightness)
    main = from_oklch(min(0.85, max(0.40, lift)), chroma * (0.7 if "pastel" in moods else 1), hue)
    turn = chance.choice((-34, 34, 48))
    if len(colours) > 1:
        second = colours[1]
    else:
        second = from_oklch(min(0.86, to_oklch(main)[0] + 0.16), chroma * 0.72, hue + turn)
    if len(colours) > 2:
        accent = colours[2]
    else:
        accent = from_oklch(0.78, max(0.11, chroma * 0.8), hue + chance.choice((180, 150, 210)))
    deep = from_oklch(0.22, min(0.07, chroma * 0.5), hue + turn * 0.5)
    light = from_oklch(0.97, min(0.02, chroma * 0.12), hue + turn * 0.3)
    if dark:
        ground = from_oklch(0.19, min(0.06, chroma * 0.4), hue)
        return Palette(ground, shade(deep, 0.12), main, second, accent, light, dark=True)
    ground = from_oklch(0.935, min(0.035, chroma * 0.22), hue + turn * 0.5)
    return Palette(ground, deep, main, second, accent, light, dark=False)


def palette_around(colours: list[str], text: str, chance: random.Random) -> Palette:
    """Return a palette for given colours, in the mood of lower-case `text`."""
    return _around(colours, named_moods(text), chance)


def choose_palette(text: str, chance: random.Random) -> Palette:
    """Return the palette of a lower-case prompt; `chance` settles what it leaves open."""
    colours = named_colours(text)
    moods = named_moods(text)
    if colours:
        return _around(colours, moods, chance)
    best = max(len(own & moods) for own, _ in CURATED)
    ranked = [palette for own, palette in CURATED if len(own & moods) == best]
    return chance.choice(ranked)
