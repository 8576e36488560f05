"""Lists, URLs, standard input, cameras and streams, served by this process."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.images.read import UnreadableImageError, encode_image, read_image, write_image
from datasets.types import Image
from tasks.common.prediction import capture, web
from tasks.common.prediction.find import find_sources, open_source
from tasks.common.prediction.sources import Live, Picture, Video
from tasks.common.runtime.repository import child_environment

BOUNDARY = "frame"
Answer = Callable[[BaseHTTPRequestHandler], None]


def picture(value: int = 90, height: int = 24, width: int = 32) -> Image:
    return np.full((height, width, 3), value, np.uint8)


@contextmanager
def serve(answer: Answer) -> Iterator[str]:
    """A web server on this machine; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # the client is gone

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(data: bytes, content_type: str = "image/jpeg", status: int = 200, length: int | None = None) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content_type)
        request.send_header("Content-Length", str(len(data) if length is None else length))
        request.end_headers()
        request.wfile.write(data)

    return answer


def send_stream(num_frames: int, interval_s: float = 0.0, rest: bytes = b"") -> Answer:
    """JPEG images one after the other, as network cameras send them; frame i has the brightness i."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        request.end_headers()
        for number in range(num_frames):
            data = encode_image(picture(number), ".jpg")
            request.wfile.write(
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            )
            request.wfile.write(data + b"\r\n")
            time.sleep(interval_s)
        request.wfile.write(rest)

    return answer


def error_of(*inputs: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        list(open_source(inputs[0])) if len(inputs) == 1 else find_sources(inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_at_a_url_is_told_by_its_content(suffix: str) -> None:
    with serve(send(encode_image(picture(), suffix), "application/octet-stream")) as url:
        (image,) = open_source(f"{url}/download?id=7")
    assert image.name == f"{url}/download?id=7"
    assert image.frame is None
    np.testing.assert_array_equal(image.image, picture())


def test_a_url_has_one_line_for_each_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = encode_image(picture(), ".jpg")
    with serve(send(b"", status=404)) as url:
        assert error_of(f"{url}/a.jpg") == f"{url}/a.jpg: the server answered 404 (Not Found)"
    assert "cannot be read ([Errno 111] Connection refused)" in error_of(f"{url}/a.jpg")  # it is gone
    with serve(send(b"<html>", "text/html")) as url:
        assert error_of(f"{url}/a.jpg") == f"{url}/a.jpg: neither an image that is read nor a video, but text/html"
    with serve(send(jpeg[:-20], length=len(jpeg))) as url:  # the connection breaks
        assert error_of(f"{url}/a.jpg") == f"{url}/a.jpg: truncated image"
    monkeypatch.setattr(web, "MAX_IMAGE_BYTES", 100)
    with serve(send(jpeg)) as url:
        assert "more than" in error_of(f"{url}/a.jpg")
    monkeypatch.setattr(web, "TIMEOUT_S", 0.1)
    with serve(lambda request: time.sleep(1)) as url:
        assert "timed out" in error_of(f"{url}/a.jpg")


def test_a_password_is_sent_and_not_shown() -> None:
    headers = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        headers.append(request.headers["Authorization"])
        send(encode_image(picture(), ".jpg"))(request)

    with serve(answer) as url:
        (image,) = open_source(url.replace("//", "//me:s%40cret@") + "/a.jpg")
    assert image.name == f"{url}/a.jpg"
    assert headers == ["Basic bWU6c0BjcmV0"]  # me:s@cret
    assert "s3cret" not in error_of("rtsp://me:s3cret@127.0.0.1:1/live")


def test_redirects_lead_to_no_file_and_take_no_password_along(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    headers = []

    def redirect(request: BaseHTTPRequestHandler, target: str) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    def other(request: BaseHTTPRequestHandler) -> None:
        headers.append(request.headers["Authorization"])
        send(encode_image(picture(), ".png"))(request)

    for target in ((tmp_path / "a.png").as_uri(), "ftp://127.0.0.1/a.png"):
        with serve(partial(redirect, target=target)) as url:
            assert "redirect" in error_of(f"{url}/a.png").lower()
    with serve(other) as target, serve(partial(redirect, target=f"{target}/b.png")) as url:
        (image,) = open_source(url.replace("//", "//me:secret@") + "/a.png")
    assert image.image.shape == picture().shape
    assert headers == [None]


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_image(picture(), ".jpg")

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        with suppress(OSError):  # the client has gone
            request.wfile.write(data[:100])
            for byte in data[100:200]:
                request.wfile.write(bytes([byte]))
                time.sleep(0.02)

    monkeypatch.setattr(web, "MAX_DOWNLOAD_S", 0.1)
    with serve(drip) as url:
        assert "not complete after 0.1 s" in error_of(f"{url}/a.png")


def test_a_list_has_paths_relative_to_itself_urls_and_comments(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "b c.png", picture(10))
    write_image(tmp_path / "a.png", picture(20))
    (tmp_path / "more").mkdir()
    write_image(tmp_path / "more" / "d.png", picture(30))
    with serve(send(encode_image(picture(), ".png"), "image/png")) as url:
        lines = ["\ufeff# two photos", "in/b c.png", "", f"  {tmp_path}/a.png ", f"{url}/x", "missing.png", "more"]
        (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8")
        with pytest.warns(UserWarning, match=r"missing\.png: No such file"):
            images = list(open_source(tmp_path / "list.txt"))
    names = [str(tmp_path / "in" / "b c.png"), str(tmp_path / "a.png"), f"{url}/x", str(tmp_path / "more" / "d.png")]
    assert [image.name for image in images] == names
    assert [image.image[0, 0, 0] for image in images] == [10, 20, 90, 30]


def test_a_list_that_is_none_is_one_line(tmp_path: Path) -> None:
    notes, empty, photo = tmp_path / "notes.txt", tmp_path / "empty.txt", tmp_path / "a.png"
    notes.write_text("Dear diary\n")
    empty.write_text("# nothing yet\n\n")
    write_image(photo, picture())
    expected = "expected a path or a URL a line"
    assert error_of(str(notes)) == f"{notes}: line 1: there is no file 'Dear diary'; {expected}"
    assert error_of(str(empty)) == f"{empty}: an empty list; {expected}"
    (tmp_path / "new").mkdir()
    empty.write_text("# nothing yet\nnew\n")
    assert error_of(str(empty)).startswith(f"{empty}: line 2: {tmp_path / 'new'}: no image or video there; ")
    with pytest.warns(UserWarning, match=r"^1 file passed over: 1 \.txt$"):
        (only,) = find_sources([str(notes), str(photo)])  # as of a shell's `*`
    assert only == Picture(str(photo), photo)


@pytest.mark.parametrize("content", ["image", "list", "neither", "empty"])
def test_standard_input_is_told_by_its_content(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", picture())
    data = {
        "image": (tmp_path / "a.png").read_bytes(),
        "list": f"{tmp_path / 'a.png'}\n".encode(),
        "neither": b"\xff\x00\xfe",
        "empty": b"",
    }[content]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    if content in ("image", "list"):
        (image,) = open_source("-")
        assert image.name == ("standard input" if content == "image" else str(tmp_path / "a.png"))
        np.testing.assert_array_equal(image.image, picture())
    else:
        assert error_of("-").startswith("standard input: ")


def test_a_camera_that_is_not_there_is_one_line() -> None:
    assert error_of("63").startswith("camera 63: there is no such camera, or another program uses it; found ")
    assert error_of("rtsp://127.0.0.1:1/live").startswith("rtsp://127.0.0.1:1/live: no stream that OpenCV can open")


def test_opencv_and_ffmpeg_say_nothing_of_their_own() -> None:
    """In a process of its own, since FFmpeg takes its log level once, when OpenCV first opens a video."""
    program = (
        "import sys\nfrom contextlib import suppress\nfrom tasks.common.prediction.find import find_sources\n"
        "for text in sys.argv[1:]:\n    with suppress(ValueError):\n"
        "        print(len(list(find_sources([text])[0].images())))"
    )
    broken = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n\xff\xd8".encode()
    with serve(send_stream(20, 0.01, broken)) as url:
        words = [sys.executable, "-c", program, "63", "rtsp://127.0.0.1:1/live", f"{url}/live"]
        done = subprocess.run(words, capture_output=True, text=True, env=child_environment(), check=True)
    assert int(done.stdout) > 0  # of the stream alone
    assert done.stderr == ""


def test_a_file_with_a_camera_s_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").write_bytes(encode_image(picture(), ".png"))
    (source,) = find_sources(["0"])
    assert source == Picture("0", Path("0"))


def test_a_stream_that_ends_or_breaks_off_gives_what_came() -> None:
    for rest in (b"", f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n\xff\xd8".encode()):
        with serve(send_stream(20, 0.01, rest)) as url:
            (source,) = find_sources([f"{url}/live"])
            assert isinstance(source, Live)
            images = list(source.images())
        indices = [image.frame or 0 for image in images]
        assert indices[-1] >= 18  # a broken frame may be dropped with the one before
        assert indices == sorted(set(indices))


def test_a_stream_is_followed_without_delay() -> None:
    """Who takes 0.1 s for a frame sees every 5th or so of 50 a second, each the newest."""
    with serve(send_stream(60, 0.02)) as url:
        (source,) = find_sources([f"{url}/live"])
        frames, started = [], time.monotonic()
        for image in source.images():
            frames.append((time.monotonic() - started, image.frame))
            time.sleep(0.1)
    assert 5 < len(frames) < 30
    late = [when - (index or 0) * 0.02 for when, index in frames]
    assert max(late[2:]) - min(late[2:]) < 0.3  # not more and more


def test_a_stream_that_hangs_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(send_stream(5, 0.01, b"--")) as url:
        (source,) = find_sources([f"{url}/live"])
    assert isinstance(source, Live)

    def answer(request: BaseHTTPRequestHandler) -> None:
        send_stream(5)(request)
        time.sleep(3)

    stop: list[int] = []
    with serve(answer) as url:
        images = Live("live", f"{url}/live", 25).images_until(stop)
        next(images)
        threading.Timer(0.3, stop.append, [2]).start()
        started = time.monotonic()
        assert len(list(images)) <= 4
        assert time.monotonic() - started < 2


def test_a_live_source_is_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", picture())
    with serve(send_stream(50, 0.01)) as url:
        message = error_of(f"{url}/live", str(tmp_path / "a.png"))
        assert message == f"{url}/live: does not end by itself; expected it as the only input"


def test_all_frames_of_a_video_at_a_url_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (32, 24))
    for number in range(7):
        writer.write(picture(30 * number))
    writer.release()
    with serve(send(path.read_bytes(), "video/mp4")) as url:
        (source,) = find_sources([f"{url}/a"])
        assert isinstance(source, Video)
        images = list(source.images())
        assert source.frames_per_s == 5
    assert [image.frame for image in images] == list(range(7))
    assert [abs(int(image.image.mean()) - 30 * number) < 8 for number, image in enumerate(images)] == [True] * 7


def test_frames_without_a_sensible_rate_have_a_default() -> None:
    class Stated:
        def __init__(self, rate: float) -> None:
            self._rate = rate

        def get(self, _: int) -> float:
            return self._rate

    for stated, expected in ((30, 30), (0, 25), (90_000, 25), (float("nan"), 25)):
        assert capture.frames_per_s(Stated(stated)) == expected  # type: ignore[arg-type]


def test_nothing_readable_is_an_error_and_some_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"a\.jpg: not an image"):
        list(open_source(tmp_path))
    write_image(tmp_path / "b.jpg", picture())
    with pytest.warns(UserWarning, match=r"a\.jpg: not an image"):
        (image,) = open_source(tmp_path)
    np.testing.assert_array_equal(image.image, read_image(tmp_path / "b.jpg"))
