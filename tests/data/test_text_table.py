import csv

import numpy as np
import pytest

from qrkt_keras import data


@pytest.fixture
def table(tmp_path):
    def table(rows, header=("text", "label"), name="reviews.csv"):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return table


def rows(n, labels=("neg", "pos")):
    return [(f"text {k}", labels[k % len(labels)]) for k in range(n)]


def test_a_table_is_split_once_and_for_all(table):
    path = table(rows(100))
    parts = {split: data.arrays(path, split) for split in data.SPLITS}
    assert {split: len(labels) for split, (_, labels) in parts.items()} == {
        "train": 80, "validation": 10, "test": 10, "train+validation": 90,
    }  # fmt: skip
    for texts, labels in parts.values():
        assert texts.dtype == object and labels.dtype == np.int32
        assert [int(text.split()[1]) % 2 for text in texts] == labels.tolist()
        assert not texts.flags.writeable and not labels.flags.writeable
    whole = [text for split in ("train", "validation", "test") for text in parts[split][0]]
    assert sorted(whole) == sorted(text for text, _ in rows(100))
    info = data.info(path)
    assert (info.kind, info.label_names, info.image_shape) == ("text", ("neg", "pos"), None)
    assert dict(info.splits) == {split: len(labels) for split, (_, labels) in parts.items()}


def test_quotes_commas_line_ends_and_long_texts_survive(table):
    odd = ['a, "b"', "two\nlines", "größe \N{SNOWMAN}", "x" * 200_000]
    path = table([(text, k % 2) for k, text in enumerate(odd * 10)])
    found = [*data.arrays(path, "train+validation")[0], *data.arrays(path, "test")[0]]
    assert sorted(found) == sorted(odd * 10)
    assert csv.field_size_limit() == 131072


def test_strings_that_end_in_csv_are_paths(table, monkeypatch):
    path = table(rows(20))
    monkeypatch.chdir(path.parent)
    assert len(data.arrays("reviews.csv", "train")[1]) == 16
    batch, _ = next(iter(data.load("reviews.csv", "train", batch_size=4)))
    assert batch.dtype.name == "string"


def test_columns_can_be_named_and_a_split_column_is_taken(table):
    parts = ["train"] * 20 + ["validation"] * 3 + ["test"] * 4
    content = [(p, t, y) for p, (t, y) in zip(parts, rows(27), strict=True)]
    path = table(content, header=("part", "body", "stars"))
    options = {"text_column": "body", "label_column": "stars"}
    sizes = {s: len(data.arrays(path, s, **options, split_column="part")[1]) for s in data.SPLITS}
    assert sizes == {"train": 20, "validation": 3, "test": 4, "train+validation": 23}
    assert len(data.arrays(path, "train", **options)[1]) == 23  # not called split: drawn
    path = table(content, header=("split", "text", "label"))
    assert len(data.arrays(path, "train")[1]) == 20


def test_numbers_are_classes_in_their_order(table):
    path = table([(str(k), (2, 10, 1)[k % 3]) for k in range(60)])
    assert data.info(path).label_names == ("1", "2", "10")
    texts, labels = data.arrays(path, "train")
    assert [(1, 2, 0)[int(text) % 3] for text in texts] == labels.tolist()


def test_numbers_with_num_classes_stand_as_they_are(table):
    path = table([(str(k), (0, 3)[k % 2]) for k in range(40)])
    info = data.info(path, num_classes=5)
    assert (info.num_classes, info.label_names) == (5, ("0", "1", "2", "3", "4"))
    assert set(data.arrays(path, "train", num_classes=5)[1].tolist()) == {0, 3}
    with pytest.raises(
        data.InvalidDatasetError,
        match=r"lie in 0\.\.2\. Received: 3 in row 3, .* and 15 more of .* \(.* is row 1\)$",
    ):
        data.arrays(path, "train", num_classes=3)
    with pytest.raises(data.InvalidDatasetError, match="num_classes=3 with neg, pos in"):
        data.arrays(table(rows(20)), "train", num_classes=3)


def test_empty_texts_are_refused_or_left_out(table):
    path = table([*rows(20), ("", "neg"), *rows(20), ("  ", "pos")])
    with pytest.raises(
        data.InvalidDatasetError, match=r"^2 of 42 texts are empty; .*Received: row 22, 43 of "
    ):
        data.arrays(path, "train")
    with pytest.warns(UserWarning, match=r"2 of 42 texts are empty and are left out: row 22, 43"):
        assert data.info(path, skip_empty=True).splits["train"] == 32


def test_a_class_that_is_not_in_train_is_refused(table):
    content = [(*row, "train") for row in rows(20)] + [("new", "odd", "test")]
    path = table(content, header=("text", "label", "split"))
    with pytest.raises(data.InvalidDatasetError, match="of test must be in train. Not there: odd"):
        data.arrays(path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text_column= .*\. Received: nothing in "),
        (b"body,label\na,b\n", r"one of them 'text'.*Received: 'body', 'label' in "),
        (b"text,stars\na,b\n", r"one of them 'label'.*Received: 'text', 'stars' in "),
        (b"text,text,label\na,b,c\n", r"Received: 'text', 'text', 'label' in "),
        (b"text,label\na,0\nb,c,1\n", r"Received: row 3 of "),
        (b"text,label\na\n", r"Received: row 2 of "),
        (b"text,label\na, \n", r"Received: none in row 2 of "),
        (b'text,label\n"a,0\n', r"not a CSV \(unexpected end of data in line 2\)"),
        (b"text,label\na,0\ncaf\xe9,1\n", r"iconv .*Received: byte 0xe9 in line 3 of "),
        (b"text,label,split\na,0,dev\n", r"Received: 'dev' in row 2 of "),
        (b"text,label,split\na,0,test\n", r"Received: no train of "),
        (b"text,label\n", r"Received: no rows in "),
        (b"text,label\n" + b"a,0\n" * 20, r"Received: 0 in "),
    ],
)
def test_tables_that_cannot_be_learned_from_are_refused(tmp_path, content, message):
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(data.InvalidDatasetError, match=message):
        data.arrays(path, "train")


def test_an_asked_for_split_column_must_be_there(table):
    with pytest.raises(data.InvalidDatasetError, match="'part'.*split_column=.*Received: 'text'"):
        data.arrays(table(rows(20)), "train", split_column="part")


def test_too_few_rows_to_hold_any_out(table):
    with pytest.raises(ValueError, match=r"at least 10\. Received: 6$"):
        data.arrays(table(rows(6)), "train")


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_text("text,label\n" + "a,0\nb,1\n" * 10, encoding="utf-8-sig")
    assert len(data.arrays(path, "train")[1]) == 16


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(data.DatasetNotFoundError, match=rf"Received: {tmp_path}/none.csv$"):
        data.arrays(tmp_path / "none.csv", "train")


def test_a_changed_table_is_read_again(table):
    assert data.info(table(rows(20))).splits["train"] == 16
    assert data.info(table(rows(40))).splits["train"] == 32
