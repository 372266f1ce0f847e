"""Why what a teacher wrote is not kept, beside the audits' reasons."""

from __future__ import annotations

from callama.data.quarantine import Reason

MAX_REQUEST_CHARS = 4_000


class Refusal(Reason):
    """One reason for each rule that a request or an answer can break."""

    REQUEST_NOT_TEXT = "request_not_text", "The teacher wrote no message of a user: a call, JSON, or nothing."
    REQUEST_TOO_LONG = "request_too_long", f"The user's message is longer than {MAX_REQUEST_CHARS:,} characters."
    ANSWER_MALFORMED = "answer_malformed", "The teacher's answer holds a broken call."
    NOT_AS_PLANNED = "not_as_planned", "The answer calls other functions than the scenario wants, or calls at all."
    FOREIGN_TEXT = "foreign_text", "A text holds control characters or a model's special tokens."
    INSTRUCTION = "instruction", "A text repeats the teacher's instruction."
    NONSENSE = "nonsense", "A text holds no word of everyday English and none of the tools'."
    OTHER_VALUES = "other_values", "A call holds other values than the scenario wants."
    TOOL_WANTED = (
        "tool_wanted",
        "Nothing is to be called, and the user's message may ask for what a tool does.",
    )
    VALUE_UNSAID = "value_unsaid", "The user's message lacks a value that it had to say."
    GAP_FILLED = "gap_filled", "The user's message may say the value that had to be missing."
    PARROTED = "parroted", "The answer repeats the user's message."
    REPEATED = "repeated", "The user's message was written before."
    SAME_ANSWER = "same_answer", "The same answer in words was kept often enough."
    NO_QUESTION = "no_question", "A value is missing and the answer does not ask for it."
    NOT_DECLINED = "not_declined", "No tool fits and the answer does not say so."
    CLAIMED = "claimed", "The answer tells of what no call did: something done, or a figure that nobody gave."
