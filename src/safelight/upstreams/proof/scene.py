"""Which scene a prompt gets, and its drawing.

Owns the word lists that choose a family of composition; the families are in the `scenes_*` modules.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from safelight.upstreams.proof.brief import Brief
from safelight.upstreams.proof.drawing import Drawing, Zone
from safelight.upstreams.proof.palette import Palette, choose_palette
from safelight.upstreams.proof.scenes_creature import creature
from safelight.upstreams.proof.scenes_land import city, landscape, sea, space
from safelight.upstreams.proof.scenes_plant import botanical
from safelight.upstreams.proof.scenes_print import arcs, mesh, report, swiss, tiles
from safelight.upstreams.proof.scenes_product import product
from safelight.upstreams.proof.words import Entry, word_table

Scene = Callable[[Drawing], Zone]

# Subjects first: "a poster of mountains" is mountains. Then the forms.
_SUBJECTS = word_table("""
report: infographic chart charts dashboard report slide slides presentation diagram data
  business statistics finance analytics ppt | 图表 报告 数据 信息图 グラフ 資料 보고서 차트
  रिपोर्ट প্রতিবেদন
creature: cat kitten dog puppy fox wolf rabbit bunny bear panda otter mouse hamster koala lion
  tiger monkey animal corgi | 猫 貓 ネコ 狗 犬 狐 兔 うさぎ 熊 パンダ 고양이 강아지 토끼 곰
  수달 बिल्ली कुत्ता খরগোশ বিড়াল কুকুর বাঘ
city: city skyline street urban tokyo york london paris shanghai seoul building buildings
  architecture downtown town metropolis skyscraper cyberpunk market | 城市 街 夜市 都市 도시
  서울 야경 शहर শহর
space: space planet galaxy star stars cosmos cosmic universe rocket astronaut orbit saturn
  mars nebula moon | 宇宙 太空 星 行星 우주 행성 अंतरिक्ष मंगल মহাকাশ
sea: sea ocean wave waves beach water lake island surf sail boat ship coast fish river harbour
  harbor | 海 波 湖 바다 파도 समुद्र समंदर সমুদ্র নদী
landscape: mountain mountains landscape valley hill hills forest sunset sunrise desert canyon
  nature cabin hike hiking alpine snow trail national park volcano fuji himalaya himalayas |
  山 风景 風景 日落 夕阳 富士 산 풍경 노을 पहाड़ पर्वत हिमालय পাহাড় পর্বত
product: product bottle perfume cosmetic cosmetics skincare packaging package coffee tea cup
  mug phone smartphone shoe shoes watch candle jar advertisement | 产品 產品 商品 香水 咖啡 茶
  コーヒー 製品 제품 커피 향수 उत्पाद चाय कॉफ़ी চা কফি পণ্য
botanical: flower flowers floral plant plants botanical leaf leaves garden bloom blossom rose
  tulip spring herb wedding | 花 植物 桜 樱 꽃 벚꽃 봄 फूल बाग़ वसंत ফুল বাগান বসন্ত
""")
_FORMS = word_table("""
tiles: bauhaus geometric pattern tile tiles mosaic quilt | 图案 幾何 模様 패턴 पैटर्न নকশা
arcs: retro vintage rainbow music jazz vinyl concert disco 70s seventies festival | 复古 音乐
  音楽 レトロ 음악 복고 संगीत সঙ্গীত
mesh: gradient soft blur abstract dream dreamy wallpaper background aurora fluid glass ai tech
  technology | 渐变 抽象 グラデーション 추상 그라데이션
swiss: poster swiss typography typographic event conference flyer banner cover exhibition logo
  sign headline minimal | 海报 海報 ポスター 포스터 पोस्टर পোস্টার
""")
_SCENES: dict[str, Scene] = {
    "report": report,
    "creature": creature,
    "city": city,
    "space": space,
    "sea": sea,
    "landscape": landscape,
    "product": product,
    "botanical": botanical,
    "tiles": tiles,
    "arcs": arcs,
    "mesh": mesh,
    "swiss": swiss,
}
_ANY: tuple[Scene, ...] = (landscape, sea, swiss, tiles, arcs, mesh)


def _rank(text: str, table: tuple[Entry, ...]) -> Scene | None:
    """Return the scene most of whose words are in `text`; the table's order settles a tie."""
    best = max(table, key=lambda entry: entry.count(text))
    return _SCENES[best.name] if best.count(text) else None


def choose_scene(brief: Brief, chance: random.Random) -> Scene:
    """Return the family of composition for a prompt; `chance` decides where it names none."""
    for text in (brief.subject, brief.whole):
        for table in (_SUBJECTS, _FORMS):
            found = _rank(text, table)
            if found is not None:
                return found
    return chance.choice(_ANY)


def draw_scene(brief: Brief, width: int, height: int, detail: int) -> tuple[Drawing, Zone]:
    """Return the drawing for a brief and the zone for its words, on a canvas of pixels."""
    chance = random.Random(brief.seed)  # noqa: S311 - a picture, not a secret
    palette = choose_palette(brief.whole if not brief.subject.strip() else brief.subject, chance)
    scene = choose_scene(brief, chance)
    drawing = new_drawing(brief, palette, width, height, detail)
    return drawing, scene(drawing)


def new_drawing(brief: Brief, palette: Palette, width: int, height: int, detail: int) -> Drawing:
    """Return an empty drawing for a brief."""
    return Drawing(
        width=width,
        height=height,
        palette=palette,
        chance=random.Random(brief.seed ^ 0x5AFE),  # noqa: S311 - a picture, not a secret
        detail=detail,
        worded=bool(brief.words),
        subject=brief.subject or brief.whole,
    )
