"""What photographs come in."""

#: Ending of a file by Pillow's name of its format. Pillow's other formats are not opened: some run programs of this
#: machine, such as Ghostscript for EPS.
ENDINGS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG file with more pictures behind the first
    "PNG": "png",
    "WEBP": "webp",
    "AVIF": "avif",
    "GIF": "gif",
    "TIFF": "tif",
    "BMP": "bmp",
    "JPEG2000": "jp2",
}
#: What ``PIL.Image.open`` is told; a file of MPO is opened as JPEG.
FORMATS = tuple(name for name in ENDINGS if name != "MPO")
