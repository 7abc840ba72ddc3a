"""Rules on playbooks: L040 to L046. What cannot be decided by reading is refused, and said so."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.domain import image_names
from engine.domain.runbook import Tool
from engine.runbooks.book import Book, Finding
from engine.runbooks.plays import Entry, Folder, folders, is_data, plain
from engine.runbooks.positions import Value
from engine.runbooks.rule import Edit, Example, rule

HOST = "target"
_LOOKS: tuple[Edit, ...] = (
    Edit(
        "diagnose",
        'kind: script\n    script: diagnose.sh\n    args: ["{{ inputs.unit }}"]',
        "kind: ansible\n    playbook: play/site.yml",
    ),
    Edit("diagnose", "    output: {required: [cause], enums: {cause: [stuck, unknown]}}\n", ""),
    Edit("confirmed", 'unless: out.cause == "unknown", expect: out.cause == "stuck"', "expect: out.drift"),
)
_PLAY = "- hosts: target\n  tasks:\n    - {name: Settings, copy: {src: app.conf, dest: /etc/app.conf}}\n"
_FILES = {"play/site.yml": _PLAY.encode(), "play/files/app.conf": b"level=info\n"}


def example(play: str = _PLAY, *more: Edit, **files: bytes) -> Example:
    """A runbook that diagnoses by a playbook, this one. `files`: further ones of its folder."""
    added = {f"play/{name.replace('__', '/')}": data for name, data in files.items()}
    return Example((*_LOOKS, *more), files={**_FILES, "play/site.yml": play.encode(), **added})


@rule("L040", bad=example("- hosts: target\n  tasks: &all []\n"), good=example())
def playbooks_can_be_read(book: Book) -> Iterator[Finding]:
    """A playbook lies in a folder of its own within the runbook's folder, of which every file is on the digest. It and
    every other YAML file there is plain YAML, as a runbook is: no anchors, no tags, no key twice. What cannot be read
    here, nobody reviewed. What lies in `files` and `templates` is data for the target and may be anything."""
    for place, script, folder in folders(book):
        if not folder.path:
            mend = "move it into a folder, such as play/site.yml"
            yield Finding(place, f"{script.file} has no folder of its own", mend)
        for file, document in folder.documents.items():
            for problem in document.problems:
                yield Finding(place, f"{file}, line {problem.line}: {problem.what}", problem.mend)
        main = folder.documents.get(script.file)
        if main is None or not isinstance(main.value, list) or not main.value:
            yield Finding(place, f"{script.file} is no list of plays", f"write such as `- hosts: {HOST}`")


_ELSEWHERE = (
    "delegate_to",
    "delegate_facts",
    "local_action",
    "add_host",
    "group_by",
    "vars_prompt",
    "connection",
    "remote_user",
    "port",
)
_CONNECTION = re.compile(
    r"ansible_(connection|host|port|user|password|\w*_executable|ssh_\w+|sftp_\w+|scp_\w+|host_key_checking|shell_type)"
)


@rule(
    "L041",
    bad=example(_PLAY.replace("copy:", "delegate_to: localhost, copy:")),
    good=example(_PLAY.replace("hosts: target", "hosts: all")),
)
def plays_work_on_the_target(book: Book) -> Iterator[Finding]:
    """A play says `hosts: target` (or `all`, which is the same): the one host of the inventory that the engine makes.
    No task goes elsewhere, not even to the VM that runs the playbook: no `delegate_to`, `local_action`, `connection`,
    `add_host`; and no variable says how the host is reached: the engine's own would win, and a reader would err."""
    for place, script, folder in folders(book):
        for entry in folder.entries:
            hosts = entry.keys.get("hosts")
            if "hosts" in entry.keys and hosts not in (HOST, "all", [HOST]):
                yield Finding(place, f"{entry.where}: a play is for {hosts!r:.60}", f"write `hosts: {HOST}`")
            if _is_play(entry, script.file) and "hosts" not in entry.keys:
                yield Finding(place, f"{entry.where}: a play does not say for whom", f"write `hosts: {HOST}`")
            for key in entry.keys:
                if plain(key) in _ELSEWHERE:
                    what = f"{entry.where}: {key} leads away from the target"
                    yield Finding(place, what, "remove it: what the VM itself should do is a step of its own")
        for file, line, key, _ in folder.keys:
            if _CONNECTION.fullmatch(key):
                mend = "remove it: user, key and address are the step's"
                yield Finding(place, f"{file}, line {line}: {key} says how the target is reached", mend)


def _is_play(entry: Entry, playbook: str) -> bool:
    return entry.file == playbook and any(key in entry.keys for key in ("tasks", "pre_tasks", "post_tasks", "roles"))


@rule(
    "L042",
    bad=example(_PLAY.replace("copy: {src: app.conf, dest: /etc/app.conf}", "raw: systemctl restart app")),
    good=example(_PLAY.replace("copy: {src: app.conf, dest: /etc/app.conf}", "service: {name: app, state: started}")),
)
def plays_can_be_shown(book: Book) -> Iterator[Finding]:
    """What check mode shows is what the run does, and it shows before anything acts. No `raw`, which has no check mode
    and always says that it changed; no `check_mode: false`, which acts while it is only shown; no `poll: 0`, of which
    nobody waits for the end. `command` and `shell` say by `creates`, `removes` or `changed_when` whether they changed
    something: otherwise no rerun can prove anything."""
    for place, _, folder in folders(book):
        for entry in folder.entries:
            for what, mend in _unseen(entry):
                yield Finding(place, f"{entry.where}: {what}", mend)


def _unseen(entry: Entry) -> Iterator[tuple[str, str]]:
    if entry.module("raw") is not None:
        yield "raw shows nothing before it acts", "use a module, or command"
    if entry.keys.get("check_mode", True) is not True:
        yield "check_mode may be off: then it acts while it is only shown", "remove it"
    if entry.keys.get("poll", 1) == 0:
        yield "poll: 0 goes on before it is done", "let it be waited for"
    free = entry.module("command", "shell", "script")
    told = {*entry.keys, *(free if isinstance(free, dict) else ()), *_args(entry)}
    if free is not None and not told & {"creates", "removes", "changed_when"} and "creates=" not in str(free):
        yield "whether this command changes anything is never said", "add `changed_when`, `creates` or `removes`"


def _args(entry: Entry) -> tuple[str, ...]:
    args = entry.keys.get("args")
    return tuple(args) if isinstance(args, dict) else ()


_LOOKUP = re.compile(r"\b(?:lookup|query|q)\(\s*(?:'([\w.]+)'|\"([\w.]+)\"|([^'\"\s]))")
_LOOKUPS = frozenset(
    {"dict", "file", "fileglob", "first_found", "indexed_items", "items", "list", "nested", "sequence", "subelements"}
    | {"template", "together", "varnames", "vars"}
)
_BESIDE = re.compile(
    r"(?:^|/)(?:ansible\.cfg|hosts|inventory|library|module_utils|collections|\w+_plugins)(?:/|\.|$)|\.(?:py|ini)$"
)


@rule(
    "L043",
    bad=example(_PLAY.replace("src: app.conf", "content: \"{{ lookup('pipe', 'date') }}\"")),
    good=example(_PLAY.replace("src: app.conf", "content: \"{{ lookup('file', 'app.conf') }}\"")),
)
def plays_run_nothing_beside(book: Book) -> Iterator[Finding]:
    """A playbook runs on its target and nowhere else. `lookup('pipe', ...)` and its like run in the step's VM, beside
    the key; so would plugins and modules of one's own. No vault: a secret is the step's, declared and short-lived. No
    configuration and no inventory: the engine's are used."""
    for place, _, folder in folders(book):
        for what, mend in (*_beside(folder), *_lookups(folder)):
            yield Finding(place, what, mend)


def _beside(folder: Folder) -> Iterator[tuple[str, str]]:
    for file, data in sorted(folder.files.items()):
        inside = file.removeprefix(folder.path)
        if _BESIDE.search(inside) and not is_data(inside):
            yield f"{file} would run beside the playbook, or says what the engine says", "remove it"
        if data.startswith(b"$ANSIBLE_VAULT"):
            yield f"{file} is encrypted by ansible-vault", "declare a secret of the step"


def _lookups(folder: Folder) -> Iterator[tuple[str, str]]:
    allowed = f"use one of {', '.join(sorted(_LOOKUPS))}"
    for file, line, text in folder.texts:
        for found in _LOOKUP.finditer(text):
            name = found[1] or found[2]
            if name is None:
                yield f"{file}, line {line}: which lookup it is cannot be decided", allowed
            elif plain(name) not in _LOOKUPS:
                yield f"{file}, line {line}: lookup {name} reads or runs something outside of the folder", allowed
    for entry in folder.entries:
        for key in entry.keys:
            if key.startswith("with_") and plain(key.removeprefix("with_")) not in _LOOKUPS:
                yield f"{entry.where}: {key} is a lookup that leads outside", "use `loop`"


_INCLUDES = ("import_playbook", "import_tasks", "include_tasks", "include_vars", "include", "vars_files")
_SOURCES = ("copy", "template", "script", "unarchive", "assemble")


@rule(
    "L044",
    bad=example(_PLAY.replace("copy: {src: app.conf, dest: /etc/app.conf}", "include_tasks: /etc/tasks.yml")),
    good=example(
        _PLAY.replace("copy: {src: app.conf, dest: /etc/app.conf}", "include_tasks: more.yml"),
        **{"more.yml": b"- {name: Settings, copy: {src: app.conf, dest: /etc/app.conf}}\n"},
    ),
)
def playbooks_stay_in_their_folder(book: Book) -> Iterator[Finding]:
    """What a playbook includes or copies lies in its folder, under the name that stands there: what lies elsewhere is
    on no digest, and what a variable names cannot be decided. Roles are folders under `roles/`."""
    for place, _, folder in folders(book):
        for entry in folder.entries:
            included = [(name, "is data for the target" * is_data(f"{name}/")) for name in _included(entry)]
            for name, data in (*included, *((name, "") for name in _copied(entry))):
                fault = _outside(folder, name) or data
                if fault:
                    yield Finding(place, f"{entry.where}: {name!r:.80} {fault}", "name a file of the playbook's folder")
            for role in _roles(entry):
                if not any(path.startswith(f"{folder.path}roles/{role}/tasks/main.") for path in folder.files):
                    what = f"{entry.where}: there is no role {role!r:.60} in {folder.path}roles/"
                    yield Finding(place, what, "put it there, or name the tasks")


def _outside(folder: Folder, name: str) -> str:
    if "{{" in name or "{%" in name:
        return "is named by a variable: which file it is cannot be decided"
    if name.startswith(("/", "~")) or ".." in name.split("/"):
        return "is outside of the playbook's folder"
    wanted = name.rstrip("/")
    there = any(path == folder.path + wanted or f"/{wanted}" in f"/{path}" for path in folder.files)
    return "" if there else "is not in the playbook's folder"


def _included(entry: Entry) -> Iterator[str]:
    for key, value in entry.keys.items():
        if plain(key) in _INCLUDES:
            yield from _names(value, "file", "dir")


def _copied(entry: Entry) -> Iterator[str]:
    """The source on the VM's side; of a template that reads a file on the target (`remote_src`) there is none."""
    args = entry.module(*_SOURCES)
    if isinstance(args, dict) and not args.get("remote_src"):
        yield from (str(args["src"]) for _ in range("src" in args))
    elif isinstance(args, str):
        yield from re.findall(r"\bsrc=(\S+)", args)
        yield from [args.partition(" ")[0]] if entry.module("script") else []


def _roles(entry: Entry) -> Iterator[str]:
    listed = entry.keys.get("roles")
    for role in listed if isinstance(listed, list) else []:
        yield from _names(role, "role", "name")
    yield from _names(entry.module("include_role", "import_role"), "name")


def _names(value: Value, *keys: str) -> Iterator[str]:
    """The names in `x`, in `[x, y]` or in `{file: x}`."""
    match value:
        case str():
            yield value.partition(" ")[0]
        case list():
            for one in value:
                yield from _names(one, *keys)
        case dict():
            yield from (str(value[key]) for key in keys if key in value)


@rule(
    "L045",
    bad=example(_PLAY, Edit("diagnose", "playbook: play/site.yml", "playbook: play/site.yml\n    image: step")),
    good=example(
        _PLAY, Edit("diagnose", "playbook: play/site.yml", "playbook: play/site.yml\n    image: step-ansible")
    ),
)
def ansible_steps_are_whole(book: Book) -> Iterator[Finding]:
    """A playbook's step boots an image that has Ansible: `step-ansible`, or an imported one. Its rollback is a playbook
    of the same folder, so that one digest covers both."""
    for at, step in book.scripts():
        if step.tool is not Tool.ANSIBLE:
            continue
        variants = image_names.variants_of(step.image)
        if variants is not None and "ansible" not in variants:
            mend = f"remove `image`, or write {image_names.ANSIBLE}"
            yield Finding(("steps", at, "image"), f"{step.id} boots {step.image}, which has no Ansible", mend)
        undo = step.rollback.script if step.rollback else None
        if undo and undo.folder != step.script.folder:
            what = f"{undo.file} is not in the folder of {step.script.file}"
            yield Finding(("steps", at, "rollback", "playbook"), what, f"move it to {step.script.folder}")


_INPUT = re.compile(r"\binput_([a-z_]+)\b")


@rule(
    "L046",
    bad=example(
        _PLAY.replace(
            "copy: {src: app.conf, dest: /etc/app.conf}",
            'shell: "systemctl reload {{ input_unit }}", changed_when: false',
        )
    ),
    good=example(
        _PLAY.replace("copy: {src: app.conf, dest: /etc/app.conf}", 'service: {name: "{{ input_unit }}"}'),
    ),
)
def inputs_are_arguments_of_modules(book: Book) -> Iterator[Finding]:
    """An input is a playbook's `{{ input_NAME }}`. It is the argument of a module, or a word in the `argv` of a
    command; it never stands in the text of a shell or command, nor in a name of a file to include."""
    known = {one.name for one in book.runbook.inputs}
    for place, _, folder in folders(book):
        for file, line, text in folder.texts:
            for name in _INPUT.findall(text):
                if name not in known:
                    mend = f"use one of {', '.join(sorted(f'input_{one}' for one in known)) or 'none: there are none'}"
                    yield Finding(place, f"{file}, line {line}: there is no input {name}", mend)
        for entry in folder.entries:
            for text in _commands(entry):
                if _INPUT.search(text):
                    what = f"{entry.where}: an input comes from an alert and is part of a command's text"
                    yield Finding(place, what, "give it as a word of `argv`")


def _commands(entry: Entry) -> Iterator[str]:
    free = entry.module("shell", "command", "script", "raw")
    if isinstance(free, dict):
        yield str(free.get("cmd", ""))
    elif free is not None:
        yield str(free)
