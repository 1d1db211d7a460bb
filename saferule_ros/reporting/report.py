"""From a run's results to its report: the one call that the demo makes."""

from pathlib import Path

from saferule_ros.errors import SaferuleError
from saferule_ros.patching.values import VALUES_FILE, load_values
from saferule_ros.reporting.html import write_report
from saferule_ros.reporting.pictures import PathPicture, draw_paths
from saferule_ros.reporting.results import DemoResults
from saferule_ros.reporting.wording import sentence
from saferule_ros.workspace import Workspace


def make_report(results: DemoResults, workspace: Workspace, folder: Path) -> Path:
    """Writes <folder>/index.html with everything that is known of the run, and returns its path.

    Pictures need the simulator and EGL; where one is missing the report says so instead.

    Args:
        results: of the run; of one that failed too.
        workspace: of the run, where its patch job left the critics' values.
        folder: is made if need be.
    """
    values = None
    if results.patch is not None:
        job = workspace.job(results.patch.job_id)
        if (job / VALUES_FILE).is_file():
            values = load_values(job)
    pictures: list[PathPicture] = []
    missing = "no path was recorded."
    try:
        pictures = draw_paths(results)
    except SaferuleError as error:
        missing = sentence(str(error))
    return write_report(results, folder, values, pictures, missing)
