"""The models of rapidocr: search for lines, then read each of them.

Owns the calls into rapidocr and the geometry of boxes. The only module that imports rapidocr; with
OpenCV and numpy it takes a second to import, so `reading` does it late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import rapidocr
from numpy.typing import NDArray
from rapidocr.utils.process_img import get_rotate_crop_image

from safelight.client.gates.matching import Line

_MODELS = Path(rapidocr.__file__).parent / "models"
_DETECTION = "PP-OCRv6_det_small.onnx"
_RECOGNITION = "PP-OCRv6_rec_small.onnx"

_LINES_MAX = 60
"""A poster has fewer; a picture of a newspaper page is not read to its end."""


class Models:
    """Both models, loaded. A reading works on the thread that asks; several may ask at once."""

    def __init__(self) -> None:
        # The paths are given, or rapidocr would fetch a model that it misses from the network.
        self._engine = rapidocr.RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.use_preprocess_img": False,
                "Det.model_path": str(_MODELS / _DETECTION),
                "Det.limit_type": "min",
                "Det.limit_side_len": 32,  # pictures come in at the size they shall be searched at
                "Rec.model_path": str(_MODELS / _RECOGNITION),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        recognizer: Any = cast("Any", self._engine)._load_rec_model()
        #: All characters that a reading can have.
        self.characters = frozenset(recognizer.postprocess_op.character)

    def read(self, image: Any, edge: int, wider: float) -> list[Line]:
        """Return the lines of an 8-bit sRGB libvips image without alpha; as `cut`."""
        boxes, crops = self.cut(image, edge, wider)
        return self._texts(crops, boxes)

    def cut(
        self, image: Any, edge: int, wider: float
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.uint8]]]:
        """Return the boxes of the lines, whatever their script, and what is in each, upright.

        Args:
            image: the picture.
            edge: its longer edge, in pixels, while lines are searched; it is never enlarged.
            wider: by which share of its height each box is widened at both ends.
        """
        whole = _array(image)
        scale = min(1.0, edge / max(image.width, image.height))
        searched = _array(image.resize(scale)) if scale < 1 else whole
        boxes = self._search(searched)
        ratio = np.array([whole.shape[1] / searched.shape[1], whole.shape[0] / searched.shape[0]])
        boxes = [_widened(box * ratio, wider) for box in boxes]
        return boxes, [_crop(whole, box) for box in boxes]

    def _search(self, array: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        result: Any = self._engine(array, use_det=True, use_cls=False, use_rec=False)
        if result.boxes is None:
            return []
        return [np.asarray(box, dtype=np.float32) for box in result.boxes[:_LINES_MAX]]

    def _texts(
        self, crops: list[NDArray[np.uint8]], boxes: list[NDArray[np.float32]]
    ) -> list[Line]:
        if not crops:
            return []
        result: Any = self._engine.recognize_txt(crops)
        return [
            line(text, float(score), box)
            for text, score, box in zip(result.txts, result.scores, boxes, strict=True)
            if text.strip()
        ]


def _array(image: Any) -> NDArray[np.uint8]:
    """Return the pixels as OpenCV has them: blue, green, red."""
    if image.bands == 1:
        image = image.bandjoin([image, image])
    data = np.frombuffer(image.cast("uchar").write_to_memory(), dtype=np.uint8)
    pixels = data.reshape(image.height, image.width, 3)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _widened(box: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return the box (corners clockwise from the top left) longer at both ends of its line."""
    if not share:
        return box
    along = box[1] - box[0]
    length = float(np.linalg.norm(along)) or 1.0
    step = along / length * float(np.linalg.norm(box[3] - box[0])) * share
    return box + np.array([-step, step, step, -step], dtype=np.float32)


def _crop(whole: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.uint8]:
    corners = box.copy().astype(np.float32)
    corners[:, 0] = np.clip(corners[:, 0], 0, whole.shape[1])
    corners[:, 1] = np.clip(corners[:, 1], 0, whole.shape[0])
    cut: NDArray[np.uint8] = get_rotate_crop_image(whole, corners)
    # The recogniser reads lines of 48 pixels: a large line is shrunk by area, or it frays.
    if cut.shape[0] > 96:
        width = max(1, round(cut.shape[1] * 64 / cut.shape[0]))
        cut = np.asarray(cv2.resize(cut, (width, 64), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return cut


def line(text: str, score: float, box: NDArray[np.float32]) -> Line:
    """Return a line that was read, with the upright box around the corners of `box`."""
    (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
    return Line(text, float(left), float(top), float(right), float(bottom), score)
