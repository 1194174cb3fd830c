import json

from dashboard.pages import words
from dashboard.pages.charts import HEIGHT, WIDTH, Plot, Series, as_points, draw


def plot(times, *series, **options) -> Plot:
    options = {"every": 2.0, "span": 300.0} | options
    return Plot("Queue depth", "jobs", words.count, times, series, **options)


def test_now_is_at_the_right_and_the_axis_at_the_top():
    drawn = draw(plot([700.0, 702.0, 1000.0], Series("due", "tone-1", [5, 6, 30])), 1000.0)
    (line,) = drawn.lines
    assert drawn.ticks == ("40", "20", "0")
    assert line.points[-1] == (WIDTH, "30")
    assert line.points[0] == (0, "5")
    assert line.path.endswith(f"M{WIDTH} {HEIGHT / 4:g}h0.01")
    assert line.latest == "30"


def test_a_line_is_broken_where_nobody_looked_and_where_nothing_is_known():
    drawn = draw(plot([900, 902, 904, 950, 952], Series("due", "t", [1, 2, None, 3, 4])), 1000.0)
    assert drawn.lines[0].path.count("M") == 2
    assert drawn.lines[0].area.count("Z") == 2


def test_what_is_older_than_the_axis_is_left_out():
    drawn = draw(plot([600, 999], Series("due", "t", [1_000_000, 1])), 1000.0)
    assert drawn.ticks[0] == "1"
    assert len(drawn.lines[0].points) == 1


def test_only_the_first_line_is_filled():
    drawn = draw(plot([998, 1000], Series("a", "t", [1, 2]), Series("b", "t", [1, 2])), 1000.0)
    assert [bool(line.area) for line in drawn.lines] == [True, False]
    bare = draw(plot([998, 1000], Series("a", "t", [1, 2]), filled=False), 1000.0)
    assert bare.lines[0].area == ""


def test_nothing_looks_like_much():
    drawn = draw(plot([1000], Series("due", "t", [0]), least=2.0), 1000.0)
    assert drawn.ticks == ("2", "1", "0")


def test_a_chart_says_in_words_what_it_shows():
    drawn = draw(plot([998, 1000], Series("due", "t", [1234, 7]), Series("running", "t", [1, None])), 1000.0)
    assert drawn.said == (
        f"Queue depth, jobs, over the last 5 minutes. Now: due 7, running {words.NONE}. Highest: 1,234."
    )
    empty = draw(plot([], Series("due", "t", [])), 1000.0)
    assert empty.said == "Queue depth: nothing has been seen yet."
    assert not empty.has_samples
    assert empty.lines[0].path == empty.lines[0].area == ""


def test_points_are_for_the_script():
    assert json.loads(as_points([(1.5, "3 µs")])) == [[1.5, "3 µs"]]
