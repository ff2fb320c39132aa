"""A bucket as a store of checkpoints and datasets: AWS, MinIO, Ceph, or whatever else speaks S3.

Files pass through in pieces: an upload, a check and a download of any size take some tens of megabytes of memory.
Nothing rests on what only some servers do (conditional writes, checksums of theirs): a key is new for each file, and
what was sent is read again and compared by our own digest.

What goes wrong comes out as Python's own errors with a sentence: FileNotFoundError where the object is missing,
PermissionError where the store refuses and somebody has to change something, ConnectionError where trying again may
help.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
)
from django.core.files.base import File
from django.utils.deconstruct import deconstructible
from storages.backends import s3
from storages.utils import clean_name

from training.store.file_system import Check

MIB = 2**20
PIECE = MIB
LINK_SECONDS = 300
CONNECT_SECONDS = 5.0
TRIES = 3  # of one request; a part of a large file is a request
TRANSFER = TransferConfig(
    multipart_threshold=32 * MIB,
    multipart_chunksize=32 * MIB,
    max_concurrency=4,
    num_download_attempts=2,
    max_io_queue=32,
    preferred_transfer_client="classic",
)
_MISSING = {"404", "NoSuchKey", "NotFound"}
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "this is no name of a bucket",
    "InvalidAccessKeyId": "it does not know the key in AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "AWS_SESSION_TOKEN is not valid",
    "RequestTimeTooSkewed": "this host's clock is wrong",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "301": "the bucket is in another region: set AWS_REGION",
    "AccessDenied": "the key lacks a permission (see docs/operations.md, S3)",
    "403": "the key is wrong or lacks a permission (see docs/operations.md, S3)",
}


@deconstructible(path="training.store.s3.S3Storage")
class S3Storage(s3.S3Storage):
    """django-storages' S3Storage with one client for all threads, and nothing spooled."""

    can_be_shared = True

    def free_bytes(self) -> None:
        """A bucket does not say."""

    def __init__(
        self,
        *,
        bucket: str,
        endpoint: str = "",
        public_endpoint: str = "",
        region: str = "",
        prefix: str = "",
        timeout: float = 20.0,
    ) -> None:
        super().__init__(
            bucket_name=bucket,
            endpoint_url=endpoint or None,
            region_name=region or None,
            location=prefix,
            file_overwrite=False,
            client_config=_config(timeout),
            transfer_config=TRANSFER,
        )
        self.public_endpoint = public_endpoint
        self._made: dict[str | None, tuple[int, Any]] = {}

    def __str__(self) -> str:
        return f"S3 bucket {self.bucket_name} at {self.endpoint_url or 'AWS'}"

    # What Heimdall asks of a store beside Django's own questions.

    def take(self, name: str, staged: Path) -> None:
        """Send a local file, large ones in parts. It stays until the caller knows that it has arrived."""
        with self._speaking(name):
            self.client.upload_file(
                str(staged),
                self.bucket_name,
                self._key(name),
                ExtraArgs={"ContentType": self.default_content_type},
                Config=TRANSFER,
            )

    def holds(self, name: str, *, size: int, check: Check) -> bool:
        """Whether these very bytes lie there: they are read again, and checked as they come."""
        if self.size(name) != size:
            return False
        with self._speaking(name):
            answer = self.client.get_object(Bucket=self.bucket_name, Key=self._key(name))
            with closing(answer["Body"]) as body:
                return check(body)

    def fetch(self, name: str, target: Path) -> None:
        with self._speaking(name):
            self.client.download_file(self.bucket_name, self._key(name), str(target), Config=TRANSFER)

    def names(self, folder: str) -> Iterator[str]:
        """All files below a folder, a thousand an answer."""
        root = self._key(folder).removesuffix(folder)
        with self._speaking(folder):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket_name, Prefix=f"{root}{folder}/"):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(root)

    def link(self, name: str, *, file_name: str, media_type: str) -> str:
        """An address that gives the file to whoever has it, for five minutes."""
        parameters = {
            "Bucket": self.bucket_name,
            "Key": self._key(name),
            "ResponseContentDisposition": f'attachment; filename="{file_name}"',
            "ResponseContentType": media_type,
        }
        with self._speaking(name):
            signer = self._client_at(self.public_endpoint or self.endpoint_url)
            return signer.generate_presigned_url("get_object", Params=parameters, ExpiresIn=LINK_SECONDS)

    def require(self) -> None:
        """Raise PermissionError or ConnectionError where the bucket cannot be worked with."""
        with self._speaking(""):
            self.client.list_objects_v2(Bucket=self.bucket_name, Prefix=self.location, MaxKeys=1)

    # Django's questions. In the base class several of them are asked through objects that threads must not share.

    def exists(self, name: str) -> bool:
        try:
            self._head(name)
        except FileNotFoundError:
            self.require()  # else every file of a bucket that is gone would count as lost
            return False
        return True

    def size(self, name: str) -> int:
        return self._head(name)["ContentLength"]

    def get_modified_time(self, name: str) -> datetime:
        return self._head(name)["LastModified"]

    def delete(self, name: str) -> None:
        with self._speaking(name):
            self.client.delete_object(Bucket=self.bucket_name, Key=self._key(name))

    def _open(self, name: str, mode: str = "rb") -> File:
        if mode != "rb":
            raise ValueError("Files in the bucket are opened for reading; they are written by take and save.")
        raw = _Ranges(self, name, self.size(name))
        return File(io.BufferedReader(raw, 256 * 1024), name)

    def _save(self, name: str, content: File) -> str:
        with self._speaking(name):
            return super()._save(name, content)

    # Clients.

    @property
    def client(self) -> Any:
        return self.connection.meta.client

    @property
    def connection(self) -> Any:
        return self._resource_at(self.endpoint_url)

    def _client_at(self, endpoint: str | None) -> Any:
        return self._resource_at(endpoint).meta.client

    def _resource_at(self, endpoint: str | None) -> Any:
        """Made once, as it takes a tenth of a second, and never taken over from before a fork."""
        pid, resource = self._made.get(endpoint, (0, None))
        if pid != os.getpid():
            resource = self._create_session().resource(
                "s3", region_name=self.region_name, endpoint_url=endpoint, config=self.client_config
            )
            self._made[endpoint] = (os.getpid(), resource)
        return resource

    def _key(self, name: str) -> str:
        return self._normalize_name(clean_name(name))

    def _head(self, name: str) -> dict[str, Any]:
        with self._speaking(name):
            return self.client.head_object(Bucket=self.bucket_name, Key=self._key(name))

    @contextmanager
    def _speaking(self, name: str) -> Iterator[None]:
        """Say in a sentence what botocore says in one of its forty errors."""
        try:
            yield
        except ClientError as error:
            raise self._as_os_error(error, name) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise PermissionError(
                f"{self} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: {error}."
            ) from error
        except Boto3Error as error:
            if isinstance(error.__context__, ClientError):  # of an upload
                raise self._as_os_error(error.__context__, name) from error
            raise ConnectionError(f"{self} broke off: {error}") from error
        except ReadTimeoutError as error:
            raise ConnectionError(f"{self} does not answer in time.") from error
        except (BotoCoreError, HTTPClientError) as error:
            raise ConnectionError(f"{self} cannot be reached: {error}") from error

    def _as_os_error(self, error: ClientError, name: str) -> OSError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _MISSING and name:
            return FileNotFoundError(f"{self} has no {name}.")
        if code in _MISSING:
            code = "NoSuchBucket"
        if code in _REFUSALS or status == 403:
            return PermissionError(f"{self} refuses: {_REFUSALS.get(code, _REFUSALS['403'])} ({code}).")
        status_text = str(status) if code in {"", str(status)} else f"{status} {code}"
        return ConnectionError(f"{self} answers {status_text}.")


class _Ranges(io.RawIOBase):
    """An object that is read by ranges: seeking costs nothing, and no more is fetched than is read."""

    def __init__(self, storage: S3Storage, name: str, size: int) -> None:
        self._storage, self._name, self._size, self._at = storage, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if self._at >= end:
            return 0
        storage, read = self._storage, 0
        with storage._speaking(self._name):
            key = storage._key(self._name)
            answer = storage.client.get_object(
                Bucket=storage.bucket_name, Key=key, Range=f"bytes={self._at}-{end - 1}"
            )
            with closing(answer["Body"]) as body:
                for piece in body.iter_chunks(PIECE):
                    buffer[read : read + len(piece)] = piece
                    read += len(piece)
        self._at += read
        return read


def _config(timeout: float) -> Config:
    """All in one: django-storages' own settings of style and signature are ignored where a config is given."""
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        # Older MinIO and Ceph refuse the checksums that newer clients send, and send none themselves.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=min(timeout, CONNECT_SECONDS),
        read_timeout=timeout,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        tcp_keepalive=True,
    )
