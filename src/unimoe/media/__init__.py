"""Bytes to signals and back to arrays: images, sound and video, numpy only."""

from unimoe.media.audio import AudioClips, AudioSource, Waveform, load_audio, log_mel_clips
from unimoe.media.image import ImageSource, ImageTiles, load_image, tile_image
from unimoe.media.source import MediaSource, SourceBytes, read_source
from unimoe.media.video import Video, VideoSource, VideoTiles, load_video, tile_video

__all__ = [
    "AudioClips",
    "AudioSource",
    "ImageSource",
    "ImageTiles",
    "MediaSource",
    "SourceBytes",
    "Video",
    "VideoSource",
    "VideoTiles",
    "Waveform",
    "load_audio",
    "load_image",
    "load_video",
    "log_mel_clips",
    "read_source",
    "tile_image",
    "tile_video",
]
