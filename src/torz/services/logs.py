"""Logging: text for people, JSON lines for programs, never a secret."""

import logging
import logging.handlers
import queue
import re
import sys
from datetime import UTC, datetime

import msgspec

_SECRETS = re.compile(
    r"(?i)((?:authorization|token|api_?key|passkey|password|secret)[\"']?\s*[:=]\s*[\"']?(?:bearer |basic )?)"
    r"[^\s\"'&,;]+"
    r"|(/v0/link/)[\w\-]+|(announce(?:\.php)?/)[\w\-]{8,}"
)


def redact(text: str) -> str:
    """Credentials, link tokens and passkeys made unreadable."""
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] or match[3]}***", text)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return redact(f"{at} {record.levelname.lower():7} {record.name}: {_message(record)}")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(_message(record)),
        }
        if id := getattr(record, "request_id", ""):
            said["request_id"] = id
        return msgspec.json.encode(said).decode()


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text


def start_logging(level: str, form: str) -> logging.handlers.QueueListener:
    """Log to standard error from a thread, so that a slow terminal holds nobody up; stop what is given at the end."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    root = logging.getLogger()
    root.handlers = [logging.handlers.QueueHandler(records)]
    root.setLevel(level.upper())
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    return listener
