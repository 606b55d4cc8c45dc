"""The empty-trial bench in inspect_ai: 50 samples, a scripted model, three bash calls each, local sandbox."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import bash


def outputs():
    for _ in range(50):
        for command in ("echo one", "echo two", "echo three"):
            yield ModelOutput.for_tool_call("mockllm/model", "bash", {"cmd": command})
        yield ModelOutput.from_content("mockllm/model", "done")


@task
def empty():
    return Task(
        dataset=[Sample(input="run three commands") for _ in range(50)],
        solver=[use_tools(bash()), generate()],
        sandbox="local",
        model=get_model("mockllm/model", custom_outputs=outputs()),
    )
