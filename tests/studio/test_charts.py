"""The geometry of charts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gati.studio import charts, formatting

VALUES = st.lists(st.one_of(st.none(), st.floats(0, 1e12)), min_size=1, max_size=30)


@given(VALUES, st.booleans())
def test_a_chart_stays_within_its_frame(values: list[float | None], lines: bool) -> None:
    labels = [str(number) for number in range(len(values))]
    made = charts.build_chart("Cost", ["cost"], [values], labels, formatting.format_dollars, lines=lines)
    for bar in made.bars:
        assert 0 <= bar.y <= bar.y + bar.height <= charts.HEIGHT
        assert charts.LEFT <= bar.x <= bar.x + bar.width <= charts.WIDTH
    for path in made.paths:
        assert len(path.points) == sum(value is not None for value in values)
        assert all(0 <= y <= charts.HEIGHT for _, y, _ in path.points)
    assert [row[1][0] == "unknown" for row in made.rows] == [value is None for value in values]
