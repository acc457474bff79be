"""Exit codes, one-line errors, and that help is quick."""

import dataclasses
import inspect
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

import unimoe.infer.conversation  # noqa: F401  before tests replace the session it names
from unimoe import cli
from unimoe.checkpoint.directory import read_config
from unimoe.checkpoint.weights import save_model
from unimoe.cli import root, talk
from unimoe.config import OmniConfig, SpecialTokens
from unimoe.infer.answering import TextDelta
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import OmniInference
from unimoe.infer.usage import Usage
from unimoe.model.omni import OmniModel
from unimoe.recipes.tiny import tiny_config

COMMANDS = [c.name or c.callback.__name__ for c in cli.app.registered_commands]
NEEDS_NO_TORCH = """
import sys, unimoe, unimoe.cli
assert unimoe.cli.main(["chat", "--help"]) == 0
assert "torch" not in sys.modules, "torch was imported"
"""

MAKES_SHAPES_WITH_LITTLE = """
import dataclasses, sys
from unimoe.model.allocate import meta_model
from unimoe.recipes.tiny import tiny_config
meta_model(dataclasses.replace(tiny_config(), vision=None, audio=None))
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
"""

ANSWERS_WITH_LITTLE = """
import sys, numpy
from unimoe import OmniInference
sound, picture = numpy.zeros(16_000, numpy.float32), numpy.zeros((8, 8, 3), numpy.uint8)
model = OmniInference(sys.argv[1])
model.chat("What is this?", image=picture, audio=(sound, 16_000), max_new_tokens=1)
slow = {"gguf", "onnx", "rich", "pandas", "matplotlib"}
assert slow.isdisjoint(sys.modules), slow & set(sys.modules)
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command line; gives back exit code, stdout and stderr."""

    def run(*words, stdin="", is_terminal=False):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: is_terminal)
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def chat(run, tiny_directory):
    """`unimoe chat` with the tiny model and short answers."""
    return lambda *words, **terminal: run(
        "chat", "--model", tiny_directory, "--max-new-tokens", 6, *words, **terminal
    )


def answer_of(tiny_directory, question, **options):
    return OmniInference(tiny_directory).chat(question, max_new_tokens=6, **options).text


def test_help_needs_no_torch():
    subprocess.run([sys.executable, "-c", NEEDS_NO_TORCH], check=True, timeout=60)


# Each of them takes as long to import as an answer may take; python -X importtime tells who did.
def test_an_answer_needs_no_slow_package(tiny_directory):
    words = [sys.executable, "-c", ANSWERS_WITH_LITTLE, str(tiny_directory)]
    subprocess.run(words, check=True, timeout=120)


def test_a_model_without_storage_needs_no_compiler():
    subprocess.run([sys.executable, "-c", MAKES_SHAPES_WITH_LITTLE], check=True, timeout=120)


def test_waiting_threads_sleep_soon_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["unimoe", "chat", "--help"])
    found = {}
    for policy in ({}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}):
        monkeypatch.setattr(os, "environ", dict(policy))
        assert cli.main() == 0
        found[tuple(policy)] = os.environ.get("GOMP_SPINCOUNT")
    assert found == {(): "1000", ("OMP_WAIT_POLICY",): None, ("GOMP_SPINCOUNT",): "7"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: unimoe {command}" in out
    assert max(map(len, out.splitlines())) <= root.HELP_WIDTH


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Missing command"),
        (["chat", "--warmth", "3"], 2, "No such option: --warmth"),
        (["chat", "--top-k", "many"], 2, "--top-k"),
        (["chat", "--dtype", "int3"], 2, "--dtype"),
        (["inspect"], 2, "Missing argument"),
        (["chat", "Hi", "--model", "no/such/place"], 1, "no/such/place"),
        (["chat", "-", "--model", "no/such/place"], 2, "stdin is empty"),
        (["chat", "Hi", "--top-p", "0.5"], 2, "no effect at temperature 0"),
    ],
)
def test_an_error_is_one_line_on_stderr(run, words, code, message):
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    assert err.startswith("unimoe: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_shows_the_traceback_wherever_it_stands(run, place):
    words = ["chat", "Hi", "--model", "no/such/place"]
    code, _, err = run(*words[:place], "--debug", *words[place:])
    assert code == 1
    assert "Traceback" in err
    assert "CheckpointError" in err


def test_a_fault_of_ours_is_one_line_too(run, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        raise ZeroDivisionError("nobody\nexpected this")

    monkeypatch.setattr("unimoe.recipes.tiny.build_tiny", broken)
    assert run("tiny", tmp_path) == (
        1,
        "",
        "unimoe: ZeroDivisionError: nobody expected this (--debug shows where)\n",
    )


def test_words_after_two_dashes_are_no_options(chat, tiny_directory):
    code, out, _ = chat("--", "--debug")
    assert (code, out) == (0, answer_of(tiny_directory, "--debug") + "\n")


def test_the_answer_is_on_stdout_and_the_bill_on_stderr(chat, tiny_directory):
    code, out, err = chat("What do you see?")
    assert (code, out) == (0, answer_of(tiny_directory, "What do you see?") + "\n")
    assert "answer 6 tokens (length)" in err
    assert "experts a token" in err
    assert err.count("\n") == 1


def test_a_dash_reads_the_question_from_stdin(chat, tiny_directory):
    code, out, _ = chat("-", stdin="What do you\nhear?\n")
    assert (code, out) == (0, answer_of(tiny_directory, "What do you\nhear?") + "\n")


def test_json_is_one_object_with_text_usage_reason_and_seed(chat, tiny_directory):
    code, out, err = chat("Hello", "--json", "--seed", 5)
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert sorted(answer) == ["finish_reason", "seed", "text", "usage"]
    assert answer["text"] == answer_of(tiny_directory, "Hello")
    assert (answer["finish_reason"], answer["seed"]) == ("length", 5)
    assert answer["usage"]["new_tokens"] == 6
    assert answer["usage"]["prompt_tokens"]["image"] == 0


def test_every_sampling_option_arrives(chat, tiny_directory):
    options = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "seed": 3}
    flags = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", value)]
    more = ["--repetition-penalty", 1.3, "--top-p-routing", 0.4, "--stop", "zq", "--stop-token", 7]
    code, out, _ = chat("Hello", *flags, *more)
    expected = answer_of(
        tiny_directory,
        "Hello",
        **options,
        repetition_penalty=1.3,
        top_p_routing=0.4,
        stop="zq",
        stop_tokens=[7],
    )
    assert (code, out) == (0, expected + "\n")


def test_the_system_text_changes_the_prompt(chat):
    _, short, _ = chat("Hello", "--json", "--system", "Hi")
    _, long, _ = chat("Hello", "--json", "--system", "You are a very patient teacher of geometry")
    counts = [json.loads(out)["usage"]["prompt_tokens"]["text"] for out in (short, long)]
    assert counts[0] < counts[1]


def test_a_picture_that_is_none_fails_with_its_name(chat, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("dear diary")
    code, out, err = chat("What is it?", "--image", path)
    assert (code, out) == (1, "")
    assert "notes.jpg" in err
    assert err.count("\n") == 1


def test_defaults_are_those_of_the_library():
    chat = inspect.signature(talk.chat).parameters
    names = [name for name in SamplingOptions.__slots__ if name not in ("stop", "stop_tokens")]
    assert len(names) == 7
    for name in names:
        assert chat[name].default == getattr(SamplingOptions(), name)


def test_a_conversation_remembers_until_reset(chat):
    code, out, _ = chat("--json", stdin="Hello\n\nAnd now?\n/reset\nHello\n/exit\nnever read\n")
    first, second, third = map(json.loads, out.splitlines())
    counts = [answer["usage"]["prompt_tokens"]["text"] for answer in (first, second, third)]
    assert code == 0
    assert counts[0] == counts[2] < counts[1]
    assert first["text"] == third["text"]


def test_media_attach_to_the_next_question_only(chat, tmp_path):
    path = tmp_path / "a b.png"
    Image.new("RGB", (60, 60), "navy").save(path)
    _, out, _ = chat("--json", stdin=f"/image {path}\nWhat?\n/reset\nWhat?\n")
    first, second = map(json.loads, out.splitlines())
    assert first["usage"]["prompt_tokens"]["image"] > 0
    assert second["usage"]["prompt_tokens"]["image"] == 0


def test_an_error_ends_a_piped_conversation(chat):
    code, out, err = chat(stdin="/image no.png\nWhat?\nHello\n")
    assert (code, out) == (1, "")
    assert "no.png" in err


def test_an_error_at_a_terminal_is_told_and_the_conversation_goes_on(chat, tiny_directory):
    code, out, err = chat(stdin="/image no.png\nWhat?\nHello\n", is_terminal=True)
    assert code == 0
    assert "no.png" in err
    assert answer_of(tiny_directory, "Hello") in out


class InterruptedSession(OmniInference):
    """A session whose user presses Ctrl-C after the second piece of the first answer."""

    def __init__(self, *arguments, **options):
        self.prompts = []
        self.closed = 0

    def respond(self, messages, options, *, top_p_routing=None, speech=None, drawing=None):
        self.prompts.append(messages)
        try:
            yield TextDelta("one ")
            yield TextDelta("two ")
            if len(self.prompts) == 1:
                raise KeyboardInterrupt
            yield Usage(
                prompt_tokens={"text": 1},
                new_tokens=2,
                experts_per_token=None,
                null_share=None,
                prefill_seconds=0.0,
                decode_seconds=0.0,
                finish_reason="stop",
                seed=0,
            )
        finally:
            self.closed += 1


def test_ctrl_c_at_a_terminal_stops_the_answer_and_keeps_what_was_said(run, monkeypatch):
    session = InterruptedSession()
    monkeypatch.setattr("unimoe.infer.session.OmniInference", lambda *a, **k: session)
    code, out, err = run("chat", stdin="first\nsecond\n", is_terminal=True)
    assert code == 0
    assert "one two" in out
    assert "[stopped]" in err
    assert session.closed == 2
    assert [part.text for turn in session.prompts[1] for part in turn.content] == [
        "first",
        "one two ",
        "second",
    ]


def test_ctrl_c_ends_a_single_question_with_130(run, monkeypatch):
    monkeypatch.setattr("unimoe.infer.session.OmniInference", InterruptedSession)
    code, out, _ = run("chat", "first")
    assert (code, out) == (130, "one two ")


def test_tiny_writes_a_checkpoint_once(run, tmp_path):
    assert run("tiny", tmp_path / "model") == (0, "", "")
    code, _, err = run("tiny", tmp_path / "model")
    assert code == 1
    assert "already holds" in err


@pytest.fixture
def dense_directory(tiny_directory, tmp_path):
    """A dense text model with the tokenizer of the tiny one."""
    config = tiny_config()
    core = dataclasses.replace(config.core, moe=None)
    special_tokens = SpecialTokens(
        pad=config.special_tokens.pad, end_of_turn=config.special_tokens.end_of_turn
    )
    torch.manual_seed(0)
    model = OmniModel(OmniConfig(core=core, special_tokens=special_tokens))
    save_model(model, tmp_path / "dense")
    shutil.copy(tiny_directory / "tokenizer.json", tmp_path / "dense")
    return tmp_path / "dense"


def test_upcycling_writes_a_model_that_answers_and_tells_its_distance(run, dense_directory):
    out = dense_directory.with_name("experts")
    code, told, _ = run("upcycle", dense_directory, out, "--routed", 3, "--routed-width", 32)
    assert code == 0
    assert "nats a token from the dense one" in told
    moe = read_config(out).core.moe
    assert (moe.router.num_routed, moe.router.num_null, moe.router.num_shared) == (3, 1, 2)
    assert (moe.routed_width, moe.shared_width) == (32, 16)
    code, answer, _ = run("chat", "Hello", "--json", "--model", out, "--max-new-tokens", 4)
    assert code == 0
    assert json.loads(answer)["usage"]["experts_per_token"] > 0


def test_an_expert_can_copy_another_model(run, dense_directory):
    out = dense_directory.with_name("experts")
    assert run("upcycle", dense_directory, out, "--source", f"1={dense_directory}")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "one"], "need the number of an expert, as in 2=DIR"),
        (["--source", "9=DENSE"], "a source for expert 9; there are 4"),
        (["--routed-width", 33], "has to divide"),
        (["--top-k", 9], "top_k is 9"),
    ],
)
def test_impossible_upcycling_is_misuse(run, dense_directory, options, message):
    words = [str(word).replace("DENSE", str(dense_directory)) for word in options]
    code, _, err = run("upcycle", dense_directory, dense_directory.with_name("experts"), *words)
    assert code == 2
    assert message in err


def test_upcycling_without_a_usable_tokenizer_writes_no_model(run, dense_directory):
    (dense_directory / "tokenizer.json").write_text("{}")
    out = dense_directory.with_name("experts")
    code, told, err = run("upcycle", dense_directory, out)
    assert (code, told) == (1, "")
    assert "tokenizer.json" in err
    assert {path.name for path in out.iterdir()} == {"tokenizer.json"}


def test_upcycling_onto_a_checkpoint_changes_nothing_there(run, dense_directory, tiny_directory):
    before = {path.name: path.read_bytes() for path in tiny_directory.iterdir()}
    code, _, err = run("upcycle", dense_directory, tiny_directory)
    assert code == 1
    assert "already holds" in err
    assert {path.name: path.read_bytes() for path in tiny_directory.iterdir()} == before


def test_inspect_shows_parts_and_json_holds_them(run, tiny_directory):
    code, text, _ = run("inspect", tiny_directory)
    assert code == 0
    assert "4 routed of 128, 1 null, 2 shared of 16" in text
    code, out, _ = run("inspect", tiny_directory, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["num_parameters"] == sum(told["parts"].values())
    assert told["is_complete"]
    assert told["config"]["core"]["num_layers"] == 3


def test_inspect_needs_no_more_than_the_configuration(run, tiny_directory, tmp_path):
    shutil.copy(tiny_directory / "config.json", tmp_path)
    code, text, _ = run("inspect", tmp_path)
    assert code == 0
    assert "no weights here" in text
    told = json.loads(run("inspect", tmp_path, "--json")[1])
    assert not told["is_complete"]
