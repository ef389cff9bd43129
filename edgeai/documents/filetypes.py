"""What kind of document a file name promises.

Looks at names only: it does not open files and does not prove that the bytes match.
"""

from __future__ import annotations

import re
from pathlib import PurePath

_EXTENSIONS = {
    "markdown": "md markdown mdown mkd mdx qmd rmd",
    "html": "html htm xhtml",
    "pdf": "pdf",
    "docx": "docx",
    "csv": "csv tsv",
    "json": "json jsonl ndjson",
    "notebook": "ipynb",
    "epub": "epub",
    "email": "eml",
    "rst": "rst rest",
    "text": "txt text log adoc asciidoc org textile wiki srt vtt ics vcf nfo",
    "code": """
        py pyi pyx js mjs cjs jsx ts mts cts tsx vue svelte java kt kts scala groovy gradle clj cljs c h cc cpp cxx hh
        hpp hxx ino m mm cs fs fsx vb go rs zig swift dart rb php pl pm lua r jl ex exs erl hrl elm hs lhs ml mli nim d
        pas f f90 f95 for cob asm s v sv vhd vhdl sql ddl graphql gql proto thrift sh bash zsh fish ps1 psm1 bat cmd awk
        sed tcl el lisp scm rkt css scss sass less styl tex bib cls sty xml xsd xsl xslt plist yaml yml toml ini cfg
        conf cnf properties env tf tfvars hcl nix cmake mk mak dockerfile bzl bazel star jinja j2 tmpl mustache hbs erb
        ejs pug po pot desktop service diff patch gd glsl wgsl hlsl cu cuh metal sol move cue dhall rego
    """,
}
_NAMES = {
    "text": "readme license licence notice authors changelog copying todo news",
    "code": """
        dockerfile containerfile makefile gnumakefile cmakelists.txt rakefile gemfile procfile vagrantfile jenkinsfile
        justfile brewfile pipfile workspace caddyfile
    """,
}
# Known to hold no text, or none that a parser here can read: no need to open them to find out.
_OFFICE = "of a format that cannot be read; save it as .docx, .pdf or .csv"
_UNREADABLE = {
    "an image, not a text": "png jpg jpeg gif bmp webp tif tiff ico heic avif psd ai eps svg raw cr2 nef",
    "audio, not a text": "mp3 wav flac ogg oga m4a aac wma opus mid aiff",
    "video, not a text": "mp4 mov avi mkv webm wmv flv m4v mpg mpeg",
    "an archive; unpack it": "zip gz tgz bz2 xz 7z rar tar zst lz4 iso dmg",
    "a font, not a text": "ttf otf woff woff2 eot",
    "a program, not a text": "exe dll so dylib a o obj lib class jar war pyc pyo wasm bin msi deb rpm apk whl",
    "a database; export it as .csv": "db sqlite sqlite3 mdb accdb parquet feather arrow h5 hdf5 npy npz pkl pickle",
    "a model, not a text": "gguf onnx safetensors pt pth ckpt tflite",
    _OFFICE: "doc xls ppt xlsx xlsm pptx odt ods odp rtf pages numbers key one msg pst mobi azw3 djvu",
}


def _inverted(table: dict[str, str]) -> dict[str, str]:
    return {word: key for key, words in table.items() for word in words.split()}


_TYPE_OF_EXTENSION, _TYPE_OF_NAME, _REASON = map(_inverted, (_EXTENSIONS, _NAMES, _UNREADABLE))


def type_of(name: str) -> str:
    """The document type of a file name, "" when the name does not tell."""
    path = PurePath(name.lower())
    by_name = _TYPE_OF_NAME.get(path.name) or _TYPE_OF_EXTENSION.get(path.suffix[1:])
    return by_name or _TYPE_OF_NAME.get(path.stem, "")


def unreadable(name: str) -> str:
    """Why a file of this name cannot hold a readable document, in words; "" when it may."""
    return _REASON.get(PurePath(name.lower()).suffix[1:], "")


def readable_stem(name: str) -> str:
    """A file name as a title: without extension, separators as spaces."""
    return re.sub(r"[\s_-]+", " ", PurePath(name).stem).strip() or name
