"""What a description says of a value's form ("DD.MM.YYYY", "six digits", "in lowercase", "ID of the customer"): it
decides over the parameter's name, and where no maker can do it, that is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from callama.synth.schema_said import around, is_form_of_all, is_kind_of_all, leads_in

COUNTRIES = "pick DE|FR|IT|ES|PT|NL|BE|AT|CH|PL|CZ|SE|NO|FI|DK|IE|GB|US|CA|MX|BR|JP|KR|IN|AU|NZ|ZA|EG|KE|TR"
_ALPHA_3 = "pick DEU|FRA|ITA|ESP|PRT|NLD|BEL|AUT|CHE|POL|CZE|SWE|NOR|FIN|DNK|IRL|GBR|USA|CAN|MEX|BRA|JPN|KOR|IND|AUS"
_STATES = "pick AL|AK|AZ|CA|CO|FL|GA|IL|IN|KS|LA|MA|MD|MI|MN|MO|NC|NJ|NV|NY|OH|OR|PA|TN|TX|UT|VA|WA|WI"
LANGUAGES = "pick en|de|fr|es|it|pt|nl|pl|cs|sv|da|fi|tr|ja|ko|zh|hi|ar"
_LOCALES = "pick en-US|en-GB|de-DE|de-AT|fr-FR|fr-CA|es-ES|es-MX|it-IT|pt-BR|nl-NL|pl-PL|sv-SE|ja-JP|ko-KR|tr-TR"
_CHANNELS = "pick #general|#random|#support|#sales|#design|#releases|#incidents|#hiring|#frontend|#data|#office|#ops"
_PROGRAMMING = "pick Python|JavaScript|TypeScript|Java|Go|Rust|Ruby|Kotlin|Swift|C|C++|C#|PHP|Scala|Haskell|Lua|Perl|R"
_AWS = ("pick us-east-1|us-east-2|us-west-1|us-west-2|eu-west-1|eu-west-2|eu-central-1|eu-north-1|ap-south-1|"
        "ap-southeast-1|ap-southeast-2|ap-northeast-1|ca-central-1|sa-east-1")  # fmt: skip
_RADIO = "pick Radio Nova|Classic FM|Jazz 24|Rock Antenne|KEXP|FIP|Radio Paradise|Dublab|BBC 6 Music|Triple J|WNYC"
_SELECTORS = ("pick #submit|#search-box|.btn-primary|nav a.active|input[name=email]|table.results|#main h1|"
              ".card .title|form#login button|ul.menu|img.logo|div.footer|#cart .total|a[href='/help']")  # fmt: skip
_CRONS = ("pick 0 9 * * 1|*/15 * * * *|30 6 * * *|0 0 1 * *|0 18 * * 5|0 */4 * * *|15 3 * * 0|0 12 * * 1-5|45 22 * * *|"
          "5 4 * * 2|0 7 * * 1-5|10 10 10 * *")  # fmt: skip
_MEDIA_TYPES = "pick image/png|image/jpeg|application/pdf|text/csv|text/plain|application/json|audio/mpeg|video/mp4"
# What a description says of a value's form, and the names that need no more than a mention of it; of others the
# description must name the value so.
_FORMS_SAID: tuple[tuple[re.Pattern[str], str, set[str]], ...] = (
    (re.compile(r"\bIATA\b(?!.*\bairline)|\bairport code\b", re.IGNORECASE), "airport",
     {"airport", "origin", "destination", "departure", "arrival", "from", "to", "code", "iata"}),
    (re.compile(r"\bISO[ -]?4217|\bcurrency code\b|\bISO currency\b", re.IGNORECASE), "currency",
     {"currency", "base", "quote", "source", "target", "from", "to", "code"}),
    (re.compile(r"\balpha-3\b|\b(?:three|3)-letter country", re.IGNORECASE), _ALPHA_3,
     {"country", "nation", "nationality", "region", "market", "code"}),
    (re.compile(r"\b3166-1\b|\bISO[ -]?3166$|\b(?:two|2)-letter (?:ISO )?country", re.IGNORECASE), COUNTRIES,
     {"country", "nation", "nationality", "region", "market", "code"}),
    (re.compile(r"\b(?:two|2)-letter (?:US )?state", re.IGNORECASE), _STATES, {"state", "region", "province"}),
    (re.compile(r"\bISO[ -]?639|\b(?:two|2)-letter language", re.IGNORECASE), LANGUAGES,
     {"language", "lang", "source", "target", "from", "to", "code"}),
    (re.compile(r"\bBCP[ -]?47\b", re.IGNORECASE), _LOCALES, {"locale", "language", "lang", "code"}),
    (re.compile(r"\bprogramming language\b", re.IGNORECASE), _PROGRAMMING, {"language", "lang"}),
    (re.compile(r"\b(?:AWS|Amazon) region\b", re.IGNORECASE), _AWS, {"region"}),
    (re.compile(r"\b(?:DNS|hosted) zone\b", re.IGNORECASE), "domain", {"zone"}),
    (re.compile(r"\bradio station\b", re.IGNORECASE), _RADIO, {"station"}),
    (re.compile(r"\bCSS selector\b", re.IGNORECASE), _SELECTORS, {"selector", "element", "css"}),
    (re.compile(r"\bcron\b", re.IGNORECASE), _CRONS, {"cron", "schedule", "expression", "when"}),
    (re.compile(r"\b(?:MIME|media) type\b", re.IGNORECASE), _MEDIA_TYPES, {"type", "mime", "media"}),
    (re.compile(r"\bhex(?:adecimal)? (?:colou?r|code|triplet|value)|#RRGGBB\b", re.IGNORECASE), "web_colour",
     {"color", "colour", "background", "foreground", "fill", "stroke"}),
    (re.compile(r"\bE\.?164\b", re.IGNORECASE), "code +49##########", {"phone", "number", "to", "from", "telephone"}),
    (re.compile(r"\b(?:branch (?:or|and) tag|tag or branch|branch name)\b", re.IGNORECASE), "branch",
     {"ref", "reference", "branch", "base", "head"}),
    (re.compile(r"^(?:\w+(?:'s)? )?(?:surname|last name|family name)$", re.IGNORECASE), "last_name", set()),
    (re.compile(r"\b(?:start\w*|begin\w*) with ['\"`]?#", re.IGNORECASE), _CHANNELS, {"channel"}),
)  # fmt: skip
# Forms that no maker has, and what a note calls them.
_NOT_MADE: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), said)
    for pattern, said in (
        (r"\bbase-?64", "base64"), (r"\bX?Path expression\b|\bXPath\b", "an XPath"),
        (r"\bregular expression\b|\bregex\b", "a regular expression"),
        (r"\bISBN\b", "an ISBN"), (r"\bVIN\b", "a VIN"),
        (r"\bJSON (?:string|object|array)\b|\bJSON-encoded\b|\bas JSON\b", "JSON"), (r"\bGeoJSON\b", "GeoJSON"),
        (r"\b(?:Azure|GCP|Google Cloud|cloud) region\b", "a cloud's region"), (r"\bISO week\b", "an ISO week"),
        (r"\bISO[ -]?8601 (?:duration|interval)\b", "an ISO 8601 duration"),
    )
)  # fmt: skip
# "The regex to match" wants one; "Text (no regular expression)", "converted to base64" and "Returns JSON" do not.
_NOT_WANTED = re.compile(
    r"\b(?:not?|without|never|isn't|returns?|returned|converted|encode[sd]?|to encode|or|answers?|match(?:es)? the)\b"
    r"[^.]*$",
    re.IGNORECASE,
)
# "ISBN or title", "ISBN, title or author"; a regex that is given is no value but a value's form.
_ONE_OF_SEVERAL = re.compile(r"(?:,[^.,;]*)* or\b|:?\s+[`'\"]?[\^\[]", re.IGNORECASE)
_FIELD = r"(?:YYYY|YY|MMMM|MMM|MM|DD|HH|SS|[DMH])"
_OFFSET = r"[+±-](?:HH:?MM|\d\d:?\d\d)"
_PATTERN = re.compile(
    rf"(?<![\w%./-]){_FIELD}(?:(?:, |[./ :-])?{_FIELD})*(?:['\"]?T['\"]?{_FIELD}(?::?{_FIELD})*)?"
    rf"(?:\.SSS)?(?:['\"]?Z['\"]?|{_OFFSET})?(?: ?AM/PM\b)?(?!\w|[-+±:./]\w)",
    re.IGNORECASE,
)
_NO_FORM = re.compile(r"\b(?:not|never|than|instead of)\s+(?:in |as )?['\"`]?$", re.IGNORECASE)
_STRFTIME = re.compile(r"%-?[YymdHMSBbIp](?:[-./ :T,]{0,2}%-?[YymdHMSBbIp])*Z?")
_DIRECTIVES = {
    "YYYY": "%Y",
    "YY": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "DD": "%d",
    "HH": "%H",
    "SS": "%S",
    "D": "%-d",
    "M": "%-m",
    "H": "%-H",
}
# Makers of the catalogue for the forms that it knows.
_KNOWN = {"%Y-%m-%d": "date", "%H:%M": "time", "%Y-%m-%dT%H:%M:%SZ": "instant", "%Y-%m": "year_month",
          "%Y-%m-%d %H:%M": "moment", "%B": "month"}  # fmt: skip
_TIMES = frozenset(("time", "hour", "at", "start", "end", "from", "to", "until", "opening", "closing", "when", "begin"))
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
           "eleven": 11, "twelve": 12, "thirteen": 13, "sixteen": 16}  # fmt: skip
_COUNT = rf"(\d{{1,2}}|{'|'.join(_COUNTS)})"
_COUNTED = re.compile(rf"\b{_COUNT}[ -](?:numeric |capital |uppercase )?(digit|letter)(s?)\b", re.IGNORECASE)
_RANGE = re.compile(r"\b(?:between )?\d+(?: ?(?:to|-|–|or|and) ?)$", re.IGNORECASE)
# What a count in front makes the value itself: "6-digit code", not "5-digit zip" of an address.
_COUNTED_KINDS = ("code", "number", "string", "id", "identifier", "abbreviation", "pin", "value", "format", "numeric")
# Codes of so many letters, by what has them.
_CODES = {("@@", "country"): COUNTRIES, ("@@@", "country"): _ALPHA_3, ("@@", "state"): _STATES,
          ("@@", "language"): LANGUAGES, ("@@@", "currency"): "currency", ("@@@", "airport"): "airport"}  # fmt: skip
_CALLED_ID = re.compile(
    r"^\W*(?:(?!(?:of|for|in|with|or|and|to|containing|whose|if|by)\b)[\w'-]+\s+){0,4}?(?:ID|identifier)\b"
    r"(?! (?:card|or|and|document|number)\b|/)",
    re.IGNORECASE,
)
# Kinds of values that are identifiers themselves: "IANA timezone identifier".
_ARE_CODES = frozenset(("timezone", "currency", "language", "airport", "ticker", "flight", "email", "branch", "repo",
                        "version", "url", "domain", "path", "filename", "hex", "phone", "record"))  # fmt: skip
_SMALL = re.compile(r"\b(?:lower[ -]?case(?: letters| characters)?|small letters)\b(?! letter\b)", re.IGNORECASE)
_CAPITALS = re.compile(
    r"\b(?:upper[ -]?case(?: letters| characters)?|capital letters|all caps)\b(?! letter\b)", re.IGNORECASE
)
# "Uppercase ticker symbol", "lowercase ISO code".
_CASED_NOUN = re.compile(r"\s+(?!(?:and|or|is|are|not|to|in)\b)\w", re.IGNORECASE)
_CASED_CODE = re.compile(r"\s+(?:ISO\b|[\w-]*(?:code|symbol|string|abbreviation)\b)", re.IGNORECASE)
_UNIX = re.compile(
    r"\bunix[ -]?(?:epoch )?(?:time|timestamp|seconds|milliseconds|epoch)|"
    r"\bepoch (?:time|timestamp|seconds|milliseconds|ms)\b"
    r"|\bsince (?:the )?(?:unix )?epoch\b|\bsince (?:January 1,? |1 January )?1970\b|\bPOSIX time",
    re.IGNORECASE,
)
_MILLIS = re.compile(r"\bmilliseconds?\b|\bms\b", re.IGNORECASE)
_UUID = re.compile(r"\b(?:UUID|GUID)\b", re.IGNORECASE)
_MOMENT_NAMES = _TIMES | {"date", "day", "month", "year", "week", "quarter", "period", "expiry", "expiration",
                          "deadline", "birthday", "timestamp"}  # fmt: skip


def form_said(words: Sequence[str], description: str, called: str) -> str:
    """The maker of the form that a description states, ``called`` what it calls the value; empty if it states none."""
    last = words[-1] if words else ""
    if "format" in words or "pattern" in words:
        return ""  # the value is a form, not in one
    for form, maker, names in _FORMS_SAID:
        if _is_called(form, called) or (last in names and form.search(description)):
            return maker
    if moment := _moment(words, description, called):
        return moment
    if (found := _UUID.search(description)) and is_kind_of_all(found, words):
        return "uuid"
    if re.search(r"\b(?:four|4)[ -]digits? year\b", description, re.IGNORECASE):
        return "moment_as %Y"
    return _code(words, description, called)


def _is_called(form: re.Pattern[str], called: str) -> bool:
    """Whether a description's noun is of a form, and not one of two ("City name and 2-letter country code")."""
    return form.search(called) is not None and not re.search(r"\b(?:and|or)\b", form.sub("", called))


def id_said(usual: str, description: str) -> str:
    """The maker of what is said to be an id, unless the ``usual`` values of its kind are ids themselves."""
    if not _CALLED_ID.match(description) or usual.split(" ")[0] in (*_ARE_CODES, "pick", "code"):
        return ""
    return "code ######" if re.search(r"\b(?:numeric|integer)\b", description, re.IGNORECASE) else "record"


def cased(maker: str, words: Sequence[str], description: str) -> str:
    """The maker in the letters that a description asks for."""
    small, capitals = (_is_cased(form, words, description) for form in (_SMALL, _CAPITALS))
    if small == capitals or maker.startswith("moment_as"):
        return maker
    return f"cased {'lower' if small else 'upper'} {maker}"


def not_made(words: Sequence[str], description: str) -> str:
    """The form that a description wants and no maker has; empty if there is none."""
    if "format" in words or "output" in words:
        return ""
    for form, said in _NOT_MADE:
        if (
            (found := form.search(description))
            and not _NOT_WANTED.search(description[: found.start()])
            and not _ONE_OF_SEVERAL.match(description, found.end())
        ):
            return said
    if {*words} & _MOMENT_NAMES and "YYYY" in description and not _moment(words, description, ""):
        return "a date in an unknown form"
    return ""


def _is_cased(form: re.Pattern[str], words: Sequence[str], description: str) -> bool:
    if (found := form.search(description)) is None:
        return False
    before, after, first = around(description, found.start(), found.end())
    if re.search(r"\bto\b", before):  # "Text to show in uppercase" has any letters
        return False
    noun = _CASED_NOUN if first and not before.strip(" \n") else _CASED_CODE
    return is_form_of_all(found, (*words, "all")) or (leads_in(before, words) and noun.match(after) is not None)


def _moment(words: Sequence[str], description: str, called: str) -> str:
    """The maker of a date or time whose form is written out, or whose clock has twelve hours."""
    if written := _STRFTIME.search(description):
        return _KNOWN.get(written[0], f"moment_as {written[0]}")
    said = {*words, *re.findall(r"[a-z]+", called.lower())}
    for found in _PATTERN.finditer(description):
        text = found[0].strip()
        if _NO_FORM.search(description[: found.start()]) or not (said & _MOMENT_NAMES or is_form_of_all(found, words)):
            continue
        form = _strftime(text) if re.search(r"YYYY|D.?M|M.?D|MM.?YY|HH?:?MM", text, re.IGNORECASE) else ""
        half = not re.search("%-?[mbB]", form) and ("d" in form or (form == "%Y" and "year" not in said))
        if form and not half:  # the "YYYY" of "January the DD, YYYY" is no date
            return _KNOWN.get(form, f"moment_as {form}")
    if said & _TIMES and re.search(r"\b12[- ]?hour\b|\bam/pm\b|\bam or pm\b", description, re.IGNORECASE):
        return "moment_as %I:%M %p"
    unix = _UNIX.search(description) if "time" in description.lower() else None
    timed = said & {*_MOMENT_NAMES, "timestamp", "epoch", "created", "updated", "expires"}
    return "code 17########" if unix and (timed or leads_in(description[: unix.start()], words)) else ""


def _strftime(text: str) -> str:
    """``DD.MM.YYYY`` as ``%d.%m.%Y``; empty for what is none."""
    half = text.upper().endswith("AM/PM")
    text = text[:-5].strip() if half else text
    offset = re.search(rf"{_OFFSET}$", text, re.IGNORECASE) if "T" in text.upper() else None
    text = text[: offset.start()] if offset else text
    shift = re.sub("[A-Za-z]", "0", offset[0]).replace("±", "+") if offset else ""
    out, hours = [], False
    for part in re.findall(
        r"\.SSS|Y{2,4}|M{1,4}|D{1,2}|H{1,2}|S{1,2}|[^YMDHS]", text.replace("'", "").replace('"', ""), re.I
    ):
        key = part.upper()
        if key == "MM":
            out.append("%M" if hours else "%m")
        elif key == ".SSS":
            out.append(".000")
        elif key in _DIRECTIVES:
            out.append(_DIRECTIVES[key].replace("H", "I" if half else "H"))
        elif key.isalpha() and key not in ("T", "Z"):
            return ""
        else:
            out.append(part)
        hours = hours or key in ("H", "HH")
    return "".join(out) + shift + (" %p" if half else "")


def _code(words: Sequence[str], description: str, called: str) -> str:
    """Digits and letters that are counted and are the whole value: "two letters and six digits", "10-digit"."""
    if re.search(r"\bhex", description, re.IGNORECASE):
        return ""
    signs, end = "", 0
    for found in _COUNTED.finditer(description):
        sign = "#" if found[2].lower() == "digit" else "@"
        if signs and re.fullmatch(r",? (?:and|followed by|then|plus) (?:the )?", description[end : found.start()]):
            signs += sign * int(_COUNTS.get(found[1].lower()) or found[1])
        elif not signs and _is_whole_code(found, sign, words):
            signs = sign * int(_COUNTS.get(found[1].lower()) or found[1])
        end = found.end()
    said = {*words, *re.findall(r"[a-z]+", description.lower())}
    known = [maker for (letters, kind), maker in _CODES.items() if letters == signs and kind in said]
    return known[0] if known else f"code {signs}" if signs else ""


def _is_whole_code(found: re.Match[str], sign: str, words: Sequence[str]) -> bool:
    before, after, first = around(found.string, found.start(), found.end())
    before = re.sub(r"\b[\w-]+'s\b", "", _RANGE.sub("", before) if sign == "#" else before)
    if not leads_in(before, words, ("last", "first", "your")):
        led = r"\b(?:as|in|is|be)(?: (?:an?|the))?\W*$|:\s*$" + (
            r"|\bwith (?:exactly )?$" if sign == "#" and found[3] else ""
        )
        head = re.search(led, before)
        if not first or not head or re.search(r"\b(?:with|and|or|not|whose|at|than)\b", before[: head.start()]):
            return False
    if found[3]:  # "six digits": nothing but more of them follows
        return bool(re.match(r"\W*$|,? (?:and|followed by|then|plus|long|only)\b|\s+of (?:the|your|a)\b", after))
    nouns = re.findall(r"[a-z]+", re.split(r"\b(?:of|for|to|in|from|that|which)\b", after.lower())[0])
    if not nouns or {"or", "and", "with"} & {*nouns}:
        return not nouns
    if first and not before.strip(" \n'\""):
        return True
    return leads_in(before, words, ("your", "last")) and (first or {*nouns} <= {*_COUNTED_KINDS, *words})


def unix_said(schema: Mapping[str, Any]) -> str:
    """The maker of a number that is a moment; empty if it is none."""
    said = str(schema.get("description", ""))
    if schema.get("format") == "unix-time" or _UNIX.search(said):
        return f"unix_time {1000 if _MILLIS.search(said) else 1}"
    return ""
