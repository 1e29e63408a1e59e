"""The weekly report of ``prefect.yaml``: the page of ``vertebra report``, written beside the tables it is about."""

from prefect import State, flow
from prefect.states import Completed, Failed

from flows.nightly import begin_run, without_names
from tasks.artifacts import REPORT, links_artifact
from tasks.cohort_report import write_report
from vertebra_core.cohort.layout import open_layout
from vertebra_core.storage import answering


@flow(name="weekly-report", persist_result=False)
def weekly_report(cohort: str) -> State:
    """Write the report of the newest snapshot; nothing is measured or published anew.

    Parameters
    ----------
    cohort : str
    """
    try:
        begin_run()
        with answering(cohort):
            written = write_report(open_layout(cohort))
    except Exception as error:
        return Failed(message=without_names(error))
    links_artifact(REPORT, [f"Report: `{written.place}`"])
    return Completed(message=f"written to {written.place}")
