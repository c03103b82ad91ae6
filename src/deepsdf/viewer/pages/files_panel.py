"""Uploading shapes into the space, and saving what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deepsdf.inference.encode import CodeEstimator, EncodeOptions, Treat
from deepsdf.jobs.worker import Cancelled, IsWanted, Worker
from deepsdf.progress import Progress
from deepsdf.viewer.content.uploads import Upload, encode_upload, upload_suffixes
from deepsdf.viewer.html import escape, note
from deepsdf.viewer.widgets import guarded, on_click

TREATMENTS: dict[str, Treat] = {"auto": "auto", "whole shape": "whole", "partial scan": "partial"}

SAVED = {
    ".ply": "Save the mesh (.ply)",
    ".glb": "Save the mesh (.glb)",
    ".png": "Save the picture (.png)",
    ".pth": "Save the code (.pth)",
}


class FilesPanel:
    """The panel, whose controls are created in the current container.

    Args:
        space: returns the current space.
        encoding: options of the codes of uploaded files; the visitor chooses `treat` and `pose`.
        on_upload: receives each upload, in the panel's thread.
        on_save: receives the suffix of the file to save.
    """

    def __init__(
        self,
        client: Any,
        space: Callable[[], CodeEstimator],
        encoding: EncodeOptions,
        on_upload: Callable[[Upload], None],
        on_save: Callable[[str], None],
    ) -> None:
        self._space, self._encoding, self._on_upload = space, encoding, on_upload
        self.worker = Worker(f"uploads {client.client_id}")
        gui = client.gui
        with gui.add_folder("Add a shape"):
            gui.add_html(note(f"A mesh, a point cloud, SDF samples or a code: {', '.join(upload_suffixes())}"))
            self.treat = gui.add_dropdown("Treat as", tuple(TREATMENTS), initial_value="auto")
            self.pose = gui.add_dropdown(
                "Pose of a scan",
                ("similarity", "rigid", "yaw", "none"),
                initial_value="similarity",
                hint="Quantities to estimate besides the shape: rotation, translation and scale (similarity), rotation "
                "and translation (rigid), rotation about the up axis and translation (yaw), nothing (none)",
            )
            self.upload = gui.add_upload_button("Choose a file ...")
            self.progress = gui.add_progress_bar(0.0, visible=False)
            self.status = gui.add_html("")
        with gui.add_folder("Save the shown shape"):
            for suffix, label in SAVED.items():
                on_click(gui.add_button(label), client, lambda suffix=suffix: on_save(suffix))
            gui.add_html(note("Meshes are saved in the unit frame, at the resolution that is shown."))

        @self.upload.on_upload
        def _(event: Any) -> None:
            file = self.upload.value
            # A key for each upload, so that a second file does not replace the first one while it waits.
            key = f"upload {event.target.update_timestamp}"
            self.worker.submit(
                key, lambda is_wanted: guarded(client, lambda: self._encode(file.name, file.content, is_wanted))
            )

    def _encode(self, name: str, content: bytes, is_wanted: IsWanted) -> None:
        self.progress.visible = True

        def show_progress(event: Progress) -> None:
            if not is_wanted():
                raise Cancelled
            self.progress.value = 100.0 * event.done / max(event.total, 1)
            self.status.content = note(escape(f"{name[:60]}: {event.task}"))

        options = replace(self._encoding, treat=TREATMENTS[self.treat.value], pose=self.pose.value)
        try:
            upload = encode_upload(self._space(), name, content, options, on_progress=show_progress)
        finally:
            if not self.worker.closed:
                self.progress.visible, self.status.content = False, ""
        self.status.content = note(escape(f"{upload.label}: {upload.summary}"))
        self._on_upload(upload)

    def close(self) -> None:
        """Cancel uploads."""
        self.worker.close()
