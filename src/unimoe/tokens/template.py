"""A conversation as the one text a model was trained on: turns, media, and whose words are whose.

In:  messages.  Out: `Prompt`: pieces of text, each known to be a control token, a part of the
     prompt's frame or somebody's words, and whether it belongs to an answer.
Media are text here: the three control tokens `<|vision_start|><|image_pad|><|vision_end|>` stand
for an image. Without a template of the directory's own the form is ChatML:

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    <|vision_start|><|image_pad|><|vision_end|>What is it?<|im_end|>
    <|im_start|>assistant

A directory's template gets messages whose content is one text with the media already in it, so it
does not matter whether it would print media itself. A template that reads lists only gets the same
text as a list of one item. Such a template sees the marks below too: it can split a text, but not
trim it.

Words can not forge turns: every text goes in between invisible marks that nobody can guess, and
marks break up whatever in it spells a control token. Control tokens are found while the marks
stand; then the marks are dropped.
Source: release (docs/sources.md#template).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from unimoe.errors import CheckpointError, RequestError
from unimoe.tokens.message import AudioPart, ImagePart, Message, Part, TextPart, VideoPart
from unimoe.tokens.sandbox import render_template
from unimoe.tokens.vocabulary import ChatTemplate, Vocabulary

DEFAULT_SYSTEM = "You are a helpful assistant."
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

_MARK_LENGTH = 12
_MARK_ALPHABET = [chr(point) for point in range(0xE000, 0xF900)]  # private use: no letters, no case


class Piece(NamedTuple):
    """A stretch of the prompt."""

    text: str
    is_control: bool
    """One control token; otherwise text in which nothing is one."""
    is_answer: bool
    """Words of the assistant, or the control token that ends them."""


class Prompt(NamedTuple):
    """A conversation in its form for the model."""

    pieces: list[Piece]
    keeps_answers: bool
    """Every answer stands there from its first to its last word. Some templates leave out what
    was thought before it: then `is_answer` is known for a part of the words only."""


class _Marks(NamedTuple):
    """Strings that occur nowhere else."""

    edge: str
    answer_start: str
    answer_end: str


def render(
    messages: Sequence[Message], vocabulary: Vocabulary, *, add_generation_prompt: bool
) -> Prompt:
    """The prompt of a conversation.

    Args:
        messages: a first system message is added by the ChatML form if there is none.
        vocabulary: brings the template and knows the control tokens.
        add_generation_prompt: end with the opening of an answer.

    Raises:
        RequestError: no messages, a medium the checkpoint has no tokens for, or a conversation
            that the template refuses.
        CheckpointError: the template fails or prints nothing of the messages.
    """
    if not messages:
        raise RequestError("no messages; need at least one")
    marks = _Marks(*(_new_mark() for _ in _Marks._fields))
    turns = [(turn.role, _marked_content(turn, vocabulary, marks)) for turn in messages]
    if vocabulary.chat_template is None:
        text = _chatml(turns, vocabulary, add_generation_prompt)
    else:
        text = _by_template(turns, vocabulary.chat_template, marks, add_generation_prompt)
    num_answers = sum(turn.role == "assistant" for turn in messages)
    keeps_answers = text.count(marks.answer_start) == text.count(marks.answer_end) == num_answers
    return Prompt(_pieces(text, vocabulary, marks), keeps_answers)


def _new_mark() -> str:
    return "".join(secrets.choice(_MARK_ALPHABET) for _ in range(_MARK_LENGTH))


def _marked_content(turn: Message, vocabulary: Vocabulary, marks: _Marks) -> str:
    content = "".join(_marked_part(part, vocabulary, marks) for part in turn.content)
    if turn.role == "assistant":
        return marks.answer_start + content + marks.answer_end
    return marks.edge + content + marks.edge


def _marked_part(part: Part, vocabulary: Vocabulary, marks: _Marks) -> str:
    if not isinstance(part, TextPart):
        return _placeholder(part, vocabulary)
    text = part.text
    if not part.has_control_tokens:
        text = _broken_up(text, vocabulary, marks)
    # Edges also inside a message: two parts side by side must not spell a control token together.
    return marks.edge + text + marks.edge


def _broken_up(text: str, vocabulary: Vocabulary, marks: _Marks) -> str:
    """Control tokens in the text lose their first character to the other side of a mark."""
    spelled = re.compile(f"(?={vocabulary.control_pattern.pattern})(.)", re.DOTALL)
    return spelled.sub(lambda match: match[1] + marks.edge, text)


def _placeholder(part: ImagePart | AudioPart | VideoPart, vocabulary: Vocabulary) -> str:
    special = vocabulary.special_tokens
    name, ids = {
        ImagePart: ("an image", (special.vision_start, special.image_pad, special.vision_end)),
        VideoPart: ("a video", (special.vision_start, special.video_pad, special.vision_end)),
        AudioPart: ("audio", (special.audio_start, special.audio_pad, special.audio_end)),
    }[type(part)]
    texts = [vocabulary.token_text(i) for i in ids if i is not None]
    if len(texts) < len(ids):
        raise RequestError(f"the prompt holds {name}, this checkpoint has no tokens for it")
    return "".join(text for text in texts if text is not None)


def _chatml(
    turns: Sequence[tuple[str, str]], vocabulary: Vocabulary, add_generation_prompt: bool
) -> str:
    for token in (TURN_START, TURN_END):
        if vocabulary.control_id(token) is None:
            raise CheckpointError(
                f"the tokenizer has no {token} and its directory no chat template; add one of them"
            )
    if turns[0][0] != "system":
        turns = [("system", DEFAULT_SYSTEM), *turns]
    text = "".join(f"{TURN_START}{role}\n{content}{TURN_END}\n" for role, content in turns)
    return text + (f"{TURN_START}assistant\n" if add_generation_prompt else "")


def _by_template(
    turns: Sequence[tuple[str, str]],
    template: ChatTemplate,
    marks: _Marks,
    add_generation_prompt: bool,
) -> str:
    as_text = [{"role": role, "content": content} for role, content in turns]
    as_list = [
        {"role": role, "content": [{"type": "text", "text": content}]} for role, content in turns
    ]
    variables = {
        "add_generation_prompt": add_generation_prompt,
        "bos_token": template.bos_token,
        "eos_token": template.eos_token,
        "tools": None,
        "documents": None,
    }
    failure = CheckpointError("the chat template prints no message; need one for text chats")
    for messages in (as_text, as_list):
        try:
            text = render_template(template.source, variables | {"messages": messages})
        except CheckpointError as error:
            failure = error
            continue
        if any(mark in text for mark in marks):
            return text
    raise failure


def _pieces(text: str, vocabulary: Vocabulary, marks: _Marks) -> list[Piece]:
    """Cut at control tokens and at the edges of answers; then no mark is left."""
    cuts = re.compile(
        f"({vocabulary.control_pattern.pattern}|{marks.answer_start}|{marks.answer_end})"
    )
    pieces: list[Piece] = []
    in_answer = ends_answer = False
    # Split with one group: even items are text, odd ones what was matched.
    for index, item in enumerate(cuts.split(text)):
        if item in (marks.answer_start, marks.answer_end):
            in_answer, ends_answer = item == marks.answer_start, item == marks.answer_end
            continue
        plain = item.replace(marks.edge, "")
        if not plain:
            continue
        pieces.append(Piece(plain, index % 2 == 1, in_answer or (ends_answer and index % 2 == 1)))
        ends_answer = False
    return pieces
