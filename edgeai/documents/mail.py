"""E-mail messages to text: who wrote what to whom, then the body.

Prefers the plain text the sender's program wrote. Attachments are named, not read.
"""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage, MIMEPart

from edgeai.documents.markup import html_to_markdown

_FIELDS = ("Subject", "From", "To", "Cc", "Date")


def mail_to_markdown(data: bytes) -> tuple[str, str]:
    """Header lines and body as Markdown, and the subject."""
    message = email.message_from_bytes(data, policy=policy.default)
    lines = [f"{name}: {' '.join(str(message[name]).split())}" for name in _FIELDS if message[name]]
    names = [name for name in (part.get_filename() for part in message.iter_attachments()) if name]
    if names:
        lines.append(f"Attachments: {', '.join(names)}")
    return "\n".join(lines) + "\n\n" + _body(message), " ".join(str(message["Subject"] or "").split())


def _body(message: EmailMessage) -> str:
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    content = _content(part)
    return html_to_markdown(content)[0] if part.get_content_type() == "text/html" else content


def _content(part: MIMEPart) -> str:
    try:
        return str(part.get_content())
    except LookupError:  # an encoding Python does not know
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", errors="replace") if isinstance(payload, bytes) else ""
