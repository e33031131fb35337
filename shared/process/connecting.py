"""The reasons why a connection to the outside failed, in words for people. No I/O."""

import errno
import socket
import ssl


def cause_of(error: BaseException) -> OSError:
    """The system's error behind a library's error, which may wrap it several times; an empty ``OSError`` where
    there is none."""
    found, cause = OSError(), error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError):
            found = cause
        inner = cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else None
        cause = inner or cause.__cause__ or cause.__context__
    return found


def is_refused_tls(error: OSError) -> bool:
    """Whether the two sides can't agree on a TLS connection, so that trying again would not help."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def unreachable(error: OSError) -> str:
    """Why a connection failed, in words for people."""
    match error:
        case ssl.SSLCertVerificationError():
            return _certificate_words(error)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "it closed the connection in the TLS handshake"
        case ssl.SSLError():
            return f"TLS failed ({(error.reason or 'no reason given').replace('_', ' ').lower()})"
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return "its name can't be looked up now: no name server answers (DNS)"
        case socket.gaierror():
            return "its name is not known (DNS)"
        case ConnectionRefusedError() | OSError(errno=errno.ECONNREFUSED):
            return "nothing listens there (connection refused)"
        case ConnectionResetError():
            return "it closed the connection at once"
        case TimeoutError() | OSError(errno=errno.ETIMEDOUT):
            return "connecting took too long"
        case OSError(errno=errno.ENETUNREACH | errno.EHOSTUNREACH):
            return "there is no way to its network"
    return error.strerror or type(error).__name__


def _certificate_words(error: ssl.SSLCertVerificationError) -> str:
    """The numbers are the codes of OpenSSL's ``X509_verify_cert_error_string``."""
    match error.verify_code:
        case 9:
            return "its certificate is not valid yet (is this machine's clock right?)"
        case 10:
            return "its certificate has expired"
        case 18:
            return "its certificate is self-signed; name it in SSL_CERT_FILE if you trust it"
        case 19 | 20 | 21:
            return (
                "its certificate is of an authority that is not known here; name the authority's certificate in "
                "SSL_CERT_FILE (or SSL_CERT_DIR) if you trust it"
            )
        case 62 | 64:
            return "its certificate is for another name"
    return f"its certificate is refused ({error.verify_message})"
