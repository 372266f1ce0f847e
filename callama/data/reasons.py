"""Every way a record can be refused or changed by cleaning, each with the sentence that stands in the report."""

from __future__ import annotations

from callama.data.quarantine import Reason


class Drop(Reason):
    """Why a record was put into quarantine."""

    UNREADABLE_RECORD = "unreadable_record", "The record is not JSON that can be read."
    RECORD_TOO_LONG = "record_too_long", "The record has more characters than are read of one (16 M)."
    NOT_AN_OBJECT = "not_an_object", "The record is not a JSON object."
    NO_CHAT = "no_chat", "The record has no text under 'chat'."
    SYSTEM_NOT_TEXT = "system_not_text", "'system' is neither text nor null."
    LONE_SURROGATE = "lone_surrogate", "The text is not Unicode: bytes that are not UTF-8, or half a surrogate pair."
    UNKNOWN_FORMAT = "unknown_format", "The record has the shape of no known format (--format forces one)."
    WRONG_SHAPE = "wrong_shape", "The record does not have the shape of its format."
    NO_FUNCTION_CALL = "no_function_call", "No function is called (--remove-no-fc)."

    FUNCTIONS_NOT_JSON = "functions_not_json", "The functions in the system text are not JSON objects."
    FUNCTION_INVALID = "function_invalid", "A declared function has no valid name or schema."
    FUNCTION_DECLARED_TWICE = "function_declared_twice", "A function is declared twice, in two different ways."

    NO_TURNS = "no_turns", "The chat does not start with a USER: or ASSISTANT: turn."
    STARTS_WITHOUT_USER = "starts_without_user", "The first turn is not the user's."
    EMPTY_TURN = "empty_turn", "A turn has no text."
    TEXT_AFTER_ENDOFTEXT = "text_after_endoftext", "A turn goes on behind <|endoftext|>."
    ASSISTANT_COLON_UNCLEAR = (
        "assistant_colon_unclear",
        "'ASSISTANT:' stands where it may be a turn or a damaged 'AI:'; nothing proves which.",
    )
    NO_ANSWER = "no_answer", "The assistant says nothing."

    CALL_NOT_JSON = "call_not_json", "A <functioncall> is not an object with 'name' and 'arguments'."
    CALL_CUT_OFF = "call_cut_off", "A <functioncall> stops before its end."
    TEXT_AFTER_CALL = "text_after_call", "Text follows a call in the same turn."
    OTHER_CALL_SYNTAX = "other_call_syntax", "An assistant's text holds a call in a syntax of another format."
    ARGUMENTS_NOT_JSON = "arguments_not_json", "A call's arguments are not JSON."
    ARGUMENTS_NOT_OBJECT = "arguments_not_object", "A call's arguments are not an object."
    ARGUMENTS_NULL = "arguments_null", "A call's arguments are null."
    ARGUMENTS_MISSING = "arguments_missing", "A call has no arguments."
    ARGUMENTS_MISNAMED = "arguments_misnamed", "A call has 'parameters' in place of 'arguments'."
    ARGUMENTS_INVALID = "arguments_invalid", "A call's arguments do not fit the function's schema."
    UNDECLARED_ARGUMENT = "undeclared_argument", "A call passes an argument that the function does not declare."
    UNDECLARED_FUNCTION = "undeclared_function", "A call names a function that is not declared."
    CALL_WITHOUT_RESULT = "call_without_result", "The chat goes on behind a call that got no result."
    RESULTS_DO_NOT_MATCH = "results_do_not_match", "There are more or fewer results than calls."
    ORPHAN_RESULT = "orphan_result", "A FUNCTION RESPONSE follows no call."
    BROKEN_RESULT = "broken_result", "A FUNCTION RESPONSE starts like JSON and is cut off or damaged."
    UNGROUNDED_ARGUMENT = (
        "ungrounded_argument",
        "A call's argument cannot be derived from the dialogue before it (--require-grounded).",
    )

    EXACT_DUPLICATE = "exact_duplicate", "The same messages (of users, assistants, tools) stand in an earlier record."
    NEAR_DUPLICATE = "near_duplicate", "An earlier record says nearly the same (MinHash similarity 0.85 or more)."
    PHRASING = "over_represented_phrasing", "More conversations than --max-per-phrasing open with these words."
    OVER_MIX = "over_mix", "The source has more conversations than its share in --mix."


class Repair(Reason):
    """What was mended, or read although it is not the normal form, in a row that was kept."""

    CALL_IN_JSON = "call_in_json", "A call was plain JSON, its arguments an object or a JSON string."
    APOSTROPHE = "apostrophe_in_arguments", "An apostrophe inside single-quoted arguments was read as text."
    BACKSLASH_APOSTROPHE = "backslash_apostrophe", r"\' in arguments, which is no JSON, was read as an apostrophe."
    EXTRA_BRACE = "extra_brace", "A closing brace too many behind a call was removed."
    MISSING_BRACE = "missing_brace", "A call's last closing brace, behind whole arguments, was added."
    RAW_CONTROL = "raw_control_character", "A raw line break or tab inside a JSON string was escaped."
    ARGUMENT_TYPE = (
        "argument_type",
        "A number as text, or a whole number in place of text, got the declared type.",
    )
    FUNCTION_RENAMED = "function_respelled", "A call's function name was spelled as declared (punctuation only)."
    NAME_MADE_VALID = "function_name_made_valid", "Spaces and signs in function names became underscores, in calls too."
    REPEATED_FUNCTION = "function_repeated", "A function declared twice in the same way was kept once."
    AI_COLON = "ai_colon_restored", "'ASSISTANT:' inside content was turned back into 'AI:'."
    ENDOFTEXT = "endoftext_misplaced", "<|endoftext|> stood twice, or in a turn that is not the assistant's."
    CALL_BEHIND_TEXT = "text_before_call", "Text and a call in one turn became one message with both."
    ASSISTANT_TURNS = "assistant_turns_merged", "Assistant turns in a row became one message."
    USER_TURNS = "user_turns_merged", "User turns in a row became one message."
    REPEATED_CALL = "repeated_call", "A call announced and repeated without change was kept once."
    USER_END = "user_end_cut", "A user turn without an answer at the end was cut."
    RESULT_END = "result_end_cut", "A result without an answer at the end was cut."
    SYSTEM_END = "system_end_cut", "A system message at the end, which nothing follows, was cut."

    FORMAT_TEXT = "format_text_cut", "System text that explains the source's own way of calling was left out."
    REASONING = "reasoning_cut", "Thoughts under a key of their own, or that hold or name a call, were left out."
    PROMPT_MARKER = "prompt_marker_cut", "The prompt marker 'Generate API Request:' was removed."

    THANKS_CUT = "thanks_cut", 'A last exchange of thanks and "feel free to ask" was cut.'
    APOLOGY_CUT = "apology_cut", "A last exchange whose answer only regrets that it cannot help was cut."
    ENDS_ON_QUESTION = "ends_on_question", "Cut to end on the assistant's question before a call (balancing)."
    ENDS_ON_CALL = "ends_on_call", "Cut to end on a call (balancing)."
