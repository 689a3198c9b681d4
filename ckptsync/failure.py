"""How a failure is told, whatever raised it, and in whichever process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ckptsync.errors import CkptsyncError, ConfigError

EXIT_BUG: Final = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    kind: str
    message: str
    hint: str | None
    exit_code: int
    problems: tuple[str, ...] = ()
    """What the message lists, a line each: its line ends are ours, not those of a quoted name."""

    @classmethod
    def of(cls, error: CkptsyncError) -> "Failure":
        if isinstance(error, Relayed):
            return error.failure
        return cls(
            kind=type(error).__name__,
            message=str(error),
            hint=error.hint,
            exit_code=error.exit_code,
            problems=error.problems if isinstance(error, ConfigError) else (),
        )

    @classmethod
    def misuse(cls, message: str) -> "Failure":
        """Of who asked for what there is not."""
        return cls(kind="UsageError", message=message, hint=None, exit_code=ConfigError.exit_code)

    @classmethod
    def bug(cls, error: BaseException, *, hint: str) -> "Failure":
        return cls(
            kind="Bug",
            message=f"this is a bug of ckptsync: {type(error).__name__}",
            hint=hint,
            exit_code=EXIT_BUG,
        )

    def document(self) -> Mapping[str, Any]:
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
            "problems": list(self.problems),
        }


class Relayed(CkptsyncError):
    """A failure of another process, told here as it was told there."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, hint=failure.hint)
        self.failure = failure
