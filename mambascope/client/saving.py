"""What a job left, on disk: result.json, images/ and the tensors, each file whole or not at all."""

from collections.abc import Callable, Iterable
from pathlib import Path

from mambascope.client.downloads import fetch_to
from mambascope.client.errors import ServiceFault
from mambascope.client.service import Service
from schemas.artifact_names import is_artifact_name
from schemas.job import Artifact
from schemas.names import ArtifactKind

IMAGES = "images"


async def save(
    service: Service,
    job_id: str,
    folder: Path,
    seen: Callable[[int, int], None] = lambda done, of: None,
) -> list[Path]:
    """Every file of a job that has succeeded, written under `folder`; figures under images/.

    `seen` is called with how many are done, and of how many. Raises ServiceFault for
    a name that is no plain file name and for bytes that are not those of the list, OSError, and as
    `fetch`.
    """
    artifacts = await service.artifacts(job_id)
    places = {name: folder / place for name, place in _places(artifacts).items()}
    for parent in {place.parent for place in places.values()}:
        parent.mkdir(parents=True, exist_ok=True)
    for index, artifact in enumerate(artifacts):
        seen(index, len(artifacts))
        await fetch_to(service, job_id, artifact, places[artifact.name])
    seen(len(artifacts), len(artifacts))
    return list(places.values())


def _places(artifacts: Iterable[Artifact]) -> dict[str, Path]:
    """Where each file belongs, by its name. Raises ServiceFault before anything is written."""
    places: dict[str, Path] = {}
    for artifact in artifacts:
        if not is_artifact_name(artifact.name) or artifact.name in places:
            raise ServiceFault(
                f"The service names a file {artifact.name!r}, which is no plain file name of its "
                "own. Nothing was saved."
            )
        inside = IMAGES if artifact.kind is ArtifactKind.FIGURE else ""
        places[artifact.name] = Path(inside) / artifact.name
    return places
