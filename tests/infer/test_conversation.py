"""What a conversation remembers, and what it forgets."""

import io

import pytest
from PIL import Image

from unimoe.errors import MediaError
from unimoe.infer.answering import TextDelta
from unimoe.infer.conversation import Conversation
from unimoe.infer.sampling import SamplingOptions
from unimoe.infer.session import OmniInference
from unimoe.infer.usage import Usage
from unimoe.tokens.message import ImagePart, message

OPTIONS = SamplingOptions(max_new_tokens=8)
PHOTO = Image.new("RGB", (56, 56), "teal")


@pytest.fixture(scope="module")
def session(tiny_directory):
    return OmniInference(tiny_directory)


def heard(events):
    *deltas, usage = events
    assert isinstance(usage, Usage)
    return "".join(delta.text for delta in deltas), usage.prompt_tokens


def test_a_second_question_is_asked_after_the_first_answer(session):
    conversation = Conversation(session, OPTIONS, system="Be brief.")
    first, _ = heard(conversation.ask("Hello"))
    second, _ = heard(conversation.ask("And now?"))
    history = [
        message("system", "Be brief."),
        message("user", "Hello"),
        message("assistant", first),
    ]
    assert second == session.chat("And now?", messages=history, max_new_tokens=8).text


def test_media_go_with_the_next_question_and_stay_in_memory(session):
    conversation = Conversation(session, OPTIONS)
    conversation.attach(ImagePart(PHOTO))
    conversation.attach(ImagePart(PHOTO))
    assert heard(conversation.ask("Same?"))[1]["image"] == 8
    assert heard(conversation.ask("Sure?"))[1]["image"] == 8


def test_a_file_object_stays_in_memory_too(session):
    file = io.BytesIO()
    PHOTO.save(file, "PNG")
    file.seek(0)
    conversation = Conversation(session, OPTIONS)
    conversation.attach(ImagePart(file))
    assert heard(conversation.ask("What is it?"))[1]["image"] == 4
    assert heard(conversation.ask("Sure?"))[1]["image"] == 4


def test_reset_forgets_turns_and_attachments_but_not_the_instructions(session):
    conversation = Conversation(session, OPTIONS, system="Be brief.")
    first = heard(conversation.ask("Hello"))
    conversation.attach(ImagePart(PHOTO))
    conversation.reset()
    assert heard(conversation.ask("Hello")) == first


def test_an_answer_given_up_is_remembered_as_far_as_it_was_said(session):
    conversation = Conversation(session, OPTIONS)
    events = conversation.ask("Hello")
    said = next(events)
    assert isinstance(said, TextDelta)
    events.close()
    history = [message("user", "Hello"), message("assistant", said.text)]
    expected = session.chat("Go on", messages=history, max_new_tokens=8).text
    assert heard(conversation.ask("Go on"))[0] == expected


def test_a_refused_question_is_not_remembered_nor_its_attachments(session):
    conversation = Conversation(session, OPTIONS)
    conversation.attach(ImagePart(b"no picture"))
    with pytest.raises(MediaError):
        conversation.ask("What is it?")
    assert heard(conversation.ask("Hello"))[0] == session.chat("Hello", max_new_tokens=8).text
