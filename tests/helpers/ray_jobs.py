"""Jobs that tests send to Ray's workers, where they kill their process once. Little is imported: each does it anew."""

import os
import signal
import time

from prepare_fakes import make_fakes


def die_once(marker):
    """Kill this process, as the machine's out-of-memory killer would, unless it was done before."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Squares:
    """Squares its jobs and counts them, and dies once in job 3."""

    def __init__(self, marker):
        self.marker, self.done = marker, 0

    def __call__(self, job):
        self.done += 1
        if job == 3:
            die_once(self.marker)
        if job == 0:
            time.sleep(1)  # others are ready before it
        return [job * job, os.getpid(), self.done]


class DyingFeatures:
    """Around features of `prepare_fakes`: the process dies once at the third image it reads."""

    def __init__(self, extractor, marker):
        self.extractor, self.marker = extractor, marker

    def __getattr__(self, name):
        return getattr(self.extractor, name)

    def extract(self, images_and_boxes):
        for number, found in enumerate(self.extractor.extract(images_and_boxes)):
            if number == 2:
                die_once(self.marker)
            yield found


def make_dying(marker, driver, arguments, device):
    """`make_tools`: those of the fakes, with an extractor that is mortal in every process but `driver`."""
    tools = make_fakes(arguments, device)
    if os.getpid() != driver:
        object.__setattr__(tools, "extractor", DyingFeatures(tools.extractor, marker))
    return tools
