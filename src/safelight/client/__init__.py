"""The Python client: orders, jobs, events, webhooks, statements, over HTTP and nothing else.

Owns the public names. Nothing below imports any other part of the gateway, so it works against
each address that speaks the OpenAI images API; what needs a safelight says so (`NotSupported`).
"""

from safelight.client.answers import (
    Balance,
    Capabilities,
    ChannelSizes,
    Job,
    JobChange,
    JobEvent,
    JobImage,
    JobProblem,
    Picture,
    Quote,
    Saved,
    SizeEntry,
    StatementLine,
)
from safelight.client.blocking import Client
from safelight.client.client import AsyncClient
from safelight.client.destinations import Destination, destination
from safelight.client.errors import (
    Answered,
    BadOrder,
    BadSignature,
    BrokenPicture,
    ClientError,
    DestinationFailed,
    Misconfigured,
    NotSupported,
    OutOfMoney,
    RateLimited,
    Refused,
    ServiceFailed,
    StaleMessage,
    TimedOut,
    Unreachable,
    UnreadableInput,
    WebhookRefused,
)
from safelight.client.figures import Figures
from safelight.client.inputs import Prepared, prepare
from safelight.client.orders import Order
from safelight.client.webhooks import WebhookMessage, verify

__all__ = [
    "Answered",
    "AsyncClient",
    "BadOrder",
    "BadSignature",
    "Balance",
    "BrokenPicture",
    "Capabilities",
    "ChannelSizes",
    "Client",
    "ClientError",
    "Destination",
    "DestinationFailed",
    "Figures",
    "Job",
    "JobChange",
    "JobEvent",
    "JobImage",
    "JobProblem",
    "Misconfigured",
    "NotSupported",
    "Order",
    "OutOfMoney",
    "Picture",
    "Prepared",
    "Quote",
    "RateLimited",
    "Refused",
    "Saved",
    "ServiceFailed",
    "SizeEntry",
    "StaleMessage",
    "StatementLine",
    "TimedOut",
    "Unreachable",
    "UnreadableInput",
    "WebhookMessage",
    "WebhookRefused",
    "destination",
    "prepare",
    "verify",
]
