"""What a job has found, with its files a call away."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambascope.client.downloads import Memory, fetch, fetch_archive
from mambascope.client.errors import (
    JobCancelled,
    JobEndedWithoutResult,
    JobFailed,
    ServiceFault,
)
from mambascope.client.exchange import understood
from mambascope.client.findings import Figure, Findings
from mambascope.client.saving import save
from mambascope.client.service import Service
from mambascope.client.wire import run
from schemas.job import Artifact, Job
from schemas.names import RESULT_FILE, Status
from schemas.result import ResultDocument

if TYPE_CHECKING:
    import numpy as np

    Tensors = Mapping[str, np.ndarray[Any, Any]]


class Analysis(Findings):
    """The result of a job: the document, and figures, tensors and files as they are asked for."""

    def figure(self, name: str) -> Figure:
        """A figure by its name. Raises NotFound, and as every exchange does."""
        return run(_figure(self._service, self.id, self._artifact(name)))

    def tensors(self) -> "Tensors":
        """The arrays by key, `m{model}/t{text}/l{layer}/{method}/{what}`.

        Raises TensorsNotStored, and as every exchange does.
        """
        return run(_tensors(self._service, self.id, self._tensor_file()))

    def save(self, folder: str | Path) -> list[Path]:
        """Write every file under a directory, figures under images/, as `mambascope analyze`."""
        return run(save(self._service, self.id, Path(folder)))

    def archive(self, path: str | Path) -> Path:
        """Write every file into one zip."""
        return run(_archive(self._service, self.id, Path(path)))


class AsyncAnalysis(Findings):
    """As `Analysis`; what asks the service is awaited."""

    async def figure(self, name: str) -> Figure:
        """As of `Analysis`."""
        return await _figure(self._service, self.id, self._artifact(name))

    async def tensors(self) -> "Tensors":
        """As of `Analysis`."""
        return await _tensors(self._service, self.id, self._tensor_file())

    async def save(self, folder: str | Path) -> list[Path]:
        """As of `Analysis`."""
        return await save(self._service, self.id, Path(folder))

    async def archive(self, path: str | Path) -> Path:
        """As of `Analysis`."""
        return await _archive(self._service, self.id, Path(path))


async def found(service: Service, job: Job) -> tuple[Job, ResultDocument, list[Artifact]]:
    """What an ended job has found. Raises JobFailed, JobCancelled, and as every exchange does."""
    if job.status is not Status.SUCCEEDED:
        raise _without_result(job)
    artifacts = await service.artifacts(job.id)
    listed = next((entry for entry in artifacts if entry.name == RESULT_FILE), None)
    if listed is None:
        raise ServiceFault(f"Job {job.id} has no {RESULT_FILE}.")
    written = await _bytes(service, job.id, listed)
    return job, understood(written, ResultDocument), artifacts


def _without_result(job: Job) -> JobEndedWithoutResult:
    if job.error is not None:
        return JobFailed(job, job.error)
    if job.status is Status.CANCELLED:
        return JobCancelled(job)
    return JobEndedWithoutResult(job, f"Job {job.id} is {job.status}.")


async def _bytes(service: Service, job_id: str, artifact: Artifact) -> bytes:
    sink = Memory()
    await fetch(service, job_id, artifact, sink)
    return bytes(sink.data)


async def _figure(service: Service, job_id: str, artifact: Artifact) -> Figure:
    return Figure(artifact.name, artifact.shows, await _bytes(service, job_id, artifact))


async def _tensors(service: Service, job_id: str, artifact: Artifact) -> "Tensors":
    from safetensors.numpy import load

    loaded: Tensors = load(await _bytes(service, job_id, artifact))
    return loaded


async def _archive(service: Service, job_id: str, place: Path) -> Path:
    await fetch_archive(service, job_id, place)
    return place
