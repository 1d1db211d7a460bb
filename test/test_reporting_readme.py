import pytest
from reporting_samples import make_results

from saferule_ros.reporting.readme import BEGIN, END, update_readme
from saferule_ros.reporting.results import ResultsError


def test_the_last_run_stands_between_the_marks_and_nothing_else_changes(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nold table\n{END}\nbelow\n")
    runs = [make_results(1, started="2026-01-02T00:00:00"), make_results(2, started="2026-01-01T00:00:00")]
    update_readme(readme, runs)
    text = readme.read_text()
    assert text.startswith(f"above\n{BEGIN}\n") and text.endswith(f"{END}\nbelow\n")
    assert "old table" not in text
    assert "seed 1, limit 25" in text  # started last
    patched = next(e for e in runs[0].evaluations if e.name == "patched")
    assert f"| {patched.heading} | {len(patched.episodes)} | {patched.return_mean:.1f} |" in text
    once = readme.read_bytes()
    update_readme(readme, runs)
    assert readme.read_bytes() == once


def test_a_file_without_marks_is_refused_and_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no place")
    with pytest.raises(ResultsError, match="no place for the table"):
        update_readme(readme, [make_results(1)])
    assert readme.read_text() == "no place"
