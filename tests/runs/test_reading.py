"""Plan files: every form, templates, names, and every fault by file, line and column."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.client.errors import BadOrder
from safelight.client.gates import Gate
from safelight.client.orders import Order
from safelight.client.runs import Defaults, GateMaker, PlanFaulty, PlanFile, read_plan
from safelight.client.runs.names import faulty_name, slug, stem_and_format
from safelight.client.runs.templates import TemplateFaulty, filled, names_in

TWO_LINES = 'prompt,size\n"a lamp\non a table",1024x1024\na chair,\n'


def read(folder: Path, name: str, text: str, defaults: Defaults | None = None) -> PlanFile:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_plan(path, GateMaker(), defaults)


def faults(folder: Path, name: str, text: str, defaults: Defaults | None = None) -> list[str]:
    with pytest.raises(PlanFaulty) as caught:
        read(folder, name, text, defaults)
    return [str(fault).replace(f"{folder}/", "") for fault in caught.value.faults]


def test_a_csv_is_read_with_templates_parameters_and_inputs(tmp_path: Path) -> None:
    """Placeholders come from the row's other columns; columns without a meaning are details."""
    (tmp_path / "one.png").write_bytes(b"1")
    (tmp_path / "two.png").write_bytes(b"2")
    text = (
        "sku,colour,prompt,size,inputs,out,quality,output_compression,parameters.seed\n"
        "7,red,A {colour} shoe {{7}},2048x2048,one.png; two.png,shoes/{sku}-{colour},high,80,42\n"
    )
    found = read(tmp_path, "shoes.csv", text)
    (item,) = found.plan.items
    assert found.plan.name == "shoes"
    assert item.order.prompt == "A red shoe {7}"
    assert item.order.inputs == (tmp_path / "one.png", tmp_path / "two.png")
    assert dict(item.order.parameters) == {"quality": "high", "output_compression": 80, "seed": 42}
    assert (item.order.size, item.out) == ("2048x2048", "shoes/7-red")
    assert item.details == {"sku": "7", "colour": "red"}
    assert found.places[item.id][1] == 2


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_of_all_countries_are_read(tmp_path: Path, separator: str) -> None:
    """The separator is seen from the header; a byte order mark is no part of a name."""
    text = "\ufeffprompt,size\na lamp,1024x1024\n".replace(",", separator)
    (item,) = read(tmp_path, "rows.csv", text).plan.items
    assert (item.order.prompt, item.order.size) == ("a lamp", "1024x1024")


def test_jsonl_and_toml_say_the_same_as_csv(tmp_path: Path) -> None:
    """One plan in three forms has the same items, ids included."""
    (tmp_path / "rows.csv").write_text("word,prompt\nred,a {word} lamp\nblue,a {word} lamp\n")
    jsonl = (
        '{"word": "red", "prompt": "a {word} lamp"}\n\n{"word": "blue", "prompt": "a blue lamp"}\n'
    )
    toml = (
        '[run]\nprompt = "a {word} lamp"\nrerolls = 1\nmax_cost = 4.5\nout = "lamps"\n'
        '[[items]]\nword = "red"\n[[items]]\nword = "blue"\n'
    )
    beside = 'items = "rows.csv"\n[run]\nconcurrency = 3\n'
    plans = [
        read_plan(tmp_path / "rows.csv", GateMaker()),
        read(tmp_path, "rows.jsonl", jsonl),
        read(tmp_path, "plan.toml", toml),
        read(tmp_path, "beside.toml", beside),
    ]
    ids = [[item.id for item in found.plan.items] for found in plans]
    assert ids[0] == ids[1] == ids[2] == ids[3]
    assert len(set(ids[0])) == 2
    assert (plans[2].wishes.rerolls, plans[2].wishes.max_cost) == (1, "4.5")
    assert (plans[2].wishes.out, plans[3].wishes.concurrency) == ("lamps", 3)


def test_a_row_stands_above_the_command_line_and_that_above_the_file(tmp_path: Path) -> None:
    """The nearest word counts."""
    toml = (
        '[run]\nsize = "1024x1024"\nmodel = "a"\n[[items]]\nprompt = "x"\n'
        '[[items]]\nprompt = "y"\nsize = "auto"\n'
    )
    first, second = read(tmp_path, "plan.toml", toml, Defaults(size="16:9@2K")).plan.items
    assert (first.order.size, second.order.size) == ("16:9@2K", "auto")
    assert first.order.model == "a"


def test_every_fault_is_told_with_its_line_and_column(tmp_path: Path) -> None:
    """All of them together: rows over several lines are counted right."""
    text = (
        'prompt,size,inputs,out,n\n"a lamp\n{on} a table",,nowhere.png,,\n'
        "a chair {,,,../up,\n,,,,\nlast,,,same,\nlast but one,,,Same.png,2\n"
    )
    told = faults(tmp_path, "rows.csv", text)
    assert told == [
        "rows.csv:2: prompt: {on} is no column of this row (columns: inputs)",
        "rows.csv:2: inputs: nowhere.png: no such file or directory",
        "rows.csv:4: prompt: a '{' stands alone at character 9; write {{ for a brace",
        "rows.csv:4: out: '../up': names must stay in the run's folder, without empty parts",
        "rows.csv:7: n: a row is one picture; repeat the row for more",
    ]


def test_a_toml_fault_has_the_line_of_its_key(tmp_path: Path) -> None:
    """tomllib tells no lines; people need them."""
    toml = (
        '[run]\nrerolls = -1\nmodle = "x"\n\n[[items]]\nprompt = "a"\n\n'
        '[[items]]\nsize = 7\nprompt = "{b}"\n'
    )
    assert faults(tmp_path, "plan.toml", toml) == [
        "plan.toml:2: rerolls: must be a whole number from 0",
        "plan.toml:3: modle: [run] has no such key; did you mean 'model'?",
        "plan.toml:9: size: must be text",
        "plan.toml:10: prompt: {b} is no column of this row (columns: size)",
    ]


def test_two_rows_with_one_file_are_refused(tmp_path: Path) -> None:
    """Some file systems do not tell upper case from lower case."""
    told = faults(tmp_path, "rows.csv", "prompt,out\na,same\nb,Same.png\n")
    assert told == ["rows.csv:3: out: 'Same' is the file of line 2, too"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rows.csv", "", "the file is empty"),
        ("rows.csv", "prompt\n", "the plan has no rows"),
        ("rows.csv", "prompt,prompt\na,b\n", "two columns have this name"),
        ("rows.csv", "prompt\na,b\n", "the row has 2 cells, the header 1"),
        ("rows.csv", 'prompt\n"open\n', "is a quote open?"),
        ("rows.csv", "promt\na lamp\n", "did you mean 'prompt'?"),
        ("rows.jsonl", '{"prompt": "a"}\n{"prompt": }\n', "rows.jsonl:2: no JSON"),
        ("rows.jsonl", "[1]\n", "a line is one JSON object"),
        ("plan.toml", "[run\n", "no TOML"),
        ("plan.toml", "[run]\n", "missing: write [[items]] tables"),
        ("plan.toml", "[runs]\nitems = 1\n", "a plan has [run] and items"),
        ("rows.csv", "size\n1024x1024\n", "prompt: missing"),
        ("rows.csv", "prompt,gates\na,shape\n", "there is no gate 'shape'"),
        ("rows.csv", "prompt,mask\na,rows.csv\n", "a mask needs the picture it belongs to"),
        ("rows.csv", "prompt,out\na,run.jsonl\n", "is what the run itself writes"),
    ],
)
def test_a_file_at_fault_is_refused_in_words(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    """Each kind of fault names itself."""
    assert words in "\n".join(faults(tmp_path, name, text))


def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path) -> None:
    """Another ending, no such file, another encoding."""
    (tmp_path / "latin.csv").write_bytes("prompt\nü\n".encode("latin-1"))
    for name, words in (
        ("plan.xlsx", "ends with .csv, .jsonl, .toml"),
        ("gone.csv", "No such file"),
        ("latin.csv", "latin.csv:2: the file is not UTF-8"),
    ):
        with pytest.raises(BadOrder, match=words):
            read_plan(tmp_path / name, GateMaker())


def test_equal_rows_are_several_items_and_rows_may_be_moved(tmp_path: Path) -> None:
    """Ids follow from the content and a count, names from the id: neither from the place."""
    before = read(tmp_path, "rows.csv", "prompt\na\nb\na\n").plan.items
    after = read(tmp_path, "rows.csv", "prompt\nb\nnew\na\na\n").plan.items
    assert len({item.id for item in before}) == 3
    assert {item.id for item in before} < {item.id for item in after}
    assert {item.out for item in before} < {item.out for item in after}


def test_an_input_with_other_bytes_is_another_item(tmp_path: Path) -> None:
    """What decides is what is in the file, not its name."""
    picture = tmp_path / "one.png"
    found = []
    for data in (b"1", b"2", b"1"):
        picture.write_bytes(data)
        found.append(read(tmp_path, "rows.csv", "prompt,inputs\na,one.png\n").plan.items[0].id)
    assert found[0] == found[2] != found[1]


def test_gates_of_all_rows_share_one_memory(tmp_path: Path) -> None:
    """A near duplicate is one of any picture of the run."""
    text = "prompt,size,gates\na,1024x1024,size; near-duplicate\nb,16:9@2K,size;near-duplicate\n"
    path = tmp_path / "rows.csv"
    path.write_text(text)
    items = read_plan(path, GateMaker({"16:9@2k": "2048x1152"})).plan.items
    sizes = [gate for item in items for gate in item.gates if gate.name == "size"]
    assert [vars(gate)["width"] for gate in sizes] == [1024, 2048]
    twins = [gate for item in items for gate in item.gates if gate.name == "near-duplicate"]
    assert twins[0] is twins[1]


def test_a_gate_is_filled_from_the_row(tmp_path: Path) -> None:
    """`text={headline}` wants each row's own headline."""
    asked: list[str] = []

    def make(spec: str, order: Order) -> Gate:
        asked.append(spec)
        return GateMaker()("not-blank", order)

    path = tmp_path / "rows.csv"
    path.write_text("prompt,headline\na,NEW {IN}\n")
    read_plan(path, make, Defaults(gates=("text={headline}",)))
    assert asked == ["text=NEW {IN}"]


@given(text=st.text(), value=st.text())
def test_braces_that_are_doubled_come_out_as_they_were(text: str, value: str) -> None:
    """And what is put in is never read as a template."""
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert filled(f"{doubled}{{name}}", {"name": value}) == text + value


@given(st.text())
def test_a_template_is_filled_or_refused_in_words(template: str) -> None:
    """Nothing else comes of any text."""
    with contextlib.suppress(TemplateFaulty):
        assert isinstance(filled(template, dict.fromkeys(names_in(template), "x")), str)


@given(st.text())
def test_a_made_name_is_a_good_name(prompt: str) -> None:
    """Whatever the prompt says, in whatever script."""
    assert faulty_name(slug(prompt, "0123456789ab")) is None


def test_an_ending_promises_a_format() -> None:
    """And is no part of the stem; other full stops are."""
    assert stem_and_format("shoes/v1.2.JPG") == ("shoes/v1.2", "jpeg")
    assert stem_and_format("v1.2") == ("v1.2", None)
