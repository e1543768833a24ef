"""Many texts at once, each its own job, and the first job's events. Needs a service.

`python examples/async_many.py`; MAMBASCOPE_URL and MAMBASCOPE_KEY say where and as whom.
"""

import asyncio

from mambascope import AsyncClient, MambascopeError

PAIRS = [("apple", 3), ("river", 7), ("stone", 1), ("house", 5)]


async def main() -> None:
    """Ask for every word of the list, and see how often the model knows its number."""
    listed = " ".join(f"{word} {number}" for word, number in PAIRS)
    # A service may allow a key so many jobs that wait; what is over it is asked again later.
    at_once = asyncio.Semaphore(8)

    async with AsyncClient() as client:

        async def answer(word: str) -> str:
            async with at_once:
                found = await client.analyze(f"{listed} {word}", attention=None, figures=False)
            return found.text().target.token.token

        answers = await asyncio.gather(*(answer(word) for word, _ in PAIRS))
        for (word, number), said in zip(PAIRS, answers, strict=True):
            print(f"{word}: {said} (told {number})")

        job = await client.submit(f"{listed} apple", figures=False)
        async for event in job.events():
            print(f"{event.status} {event.progress.fraction:.0%} {event.progress.stage or ''}")

        try:
            await client.analyze(listed, layers=[99])
        except MambascopeError as error:
            print(error)


asyncio.run(main())
