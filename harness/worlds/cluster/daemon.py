"""Docker's daemon: asked through the package docker, and every failure told in one sentence."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, Unsupported
from harness.worlds.cluster import source
from tapper.output.escape import escape

CONTAINERFILE = "fixtures/istio/Containerfile"
_LOG_LINES = 12
_LOG_LINE_CHARACTERS = 300


@contextmanager
def client() -> Iterator[Any]:
    """A docker.DockerClient, closed after the block. Raises Unsupported where no daemon can be reached, HarnessError
    where it refuses what the block asks of it, or goes away."""
    import docker  # noqa: PLC0415 - only a kind cluster needs it
    from docker.errors import DockerException  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415 - what docker is made of
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        connected = docker.from_env()
    except DockerException as error:
        raise Unsupported(f"kind needs Docker, and its daemon cannot be reached: {error} (DOCKER_HOST)") from None
    try:
        yield connected
    except (DockerException, RequestException, HTTPError) as error:
        raise HarnessError(f"Docker's daemon refused a request, or went away: {error}") from None
    finally:
        connected.close()


def build_image(tag: str, archive: Path) -> None:
    """Build the Containerfile and save the image as an archive, of the format of `docker save`. Raises Unsupported with
    the last lines of the build's log."""
    from docker.errors import APIError, BuildError  # noqa: PLC0415

    with source.checkout() as folder, client() as docker:
        try:
            # the package obeys the .dockerignore of this folder
            image, _ = docker.images.build(path=str(folder), dockerfile=CONTAINERFILE, tag=tag, forcerm=True)
        except BuildError as error:
            raise Unsupported(
                f"the image {tag} cannot be built: {escape(str(error.msg))} (--image-archive takes a built one). "
                f"The end of the build's log:\n{last_lines(error.build_log)}"
            ) from None
        except APIError as error:
            raise Unsupported(f"the image {tag} cannot be built: {error}; --image-archive takes a built one") from None
        with archive.open("wb") as file:
            for chunk in image.save(named=True):
                file.write(chunk)


def last_lines(log: Iterable[dict[str, Any]]) -> str:
    """The last lines of a build's log, which the daemon sends as objects: those with `stream` or `error` are output."""
    text = "".join(str(part.get("stream") or part.get("error") or "") for part in deque(log, 10 * _LOG_LINES))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {escape(line[:_LOG_LINE_CHARACTERS])}" for line in lines[-_LOG_LINES:])
