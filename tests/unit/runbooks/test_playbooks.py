"""What lint says of playbooks: each way past the engine's own inventory, connection and folder is found, or said to be
one that cannot be decided by reading."""

from __future__ import annotations

import pytest

from engine.runbooks.rule import Edit, Example
from engine.runbooks.rules.playbooks import HOST, example
from tests.unit.runbooks.judged import rules, said


def task(text: str) -> str:
    return f"- hosts: {HOST}\n  tasks:\n    - {text}\n"


def judged(bent: Example) -> list[str]:
    return said(bent.text, bent.folder)


@pytest.mark.parametrize(
    ("rule", "play", "says"),
    [
        ("L040", "", "play/site.yml is no list of plays"),
        ("L040", "hosts: target\n", "play/site.yml is no list of plays"),
        ("L040", "- hosts: target\n  tasks: [\n", "play/site.yml, line 3: not to be read"),
        ("L040", task("{name: x, copy: {content: !vault x, dest: /x}}"), "the tag !vault is not allowed"),
        ("L040", task("{name: x, copy: {content: !unsafe x, dest: /x}}"), "the tag !unsafe is not allowed"),
        ("L041", "- hosts: localhost\n  tasks: []\n", "a play is for 'localhost'"),
        ("L041", "- hosts: [target, web]\n  tasks: []\n", "a play is for ['target', 'web']"),
        ("L041", '- hosts: "{{ where }}"\n  tasks: []\n', "a play is for '{{ where }}'"),
        ("L041", "- tasks: []\n", "a play does not say for whom"),
        ("L041", "- hosts: target\n  connection: local\n  tasks: []\n", "connection leads away"),
        ("L041", task("{ping: {}, delegate_to: '{{ x }}'}"), "line 3: delegate_to leads away from the target"),
        ("L041", task("{local_action: {module: ping}}"), "local_action leads away"),
        ("L041", task("{ansible.builtin.add_host: {name: x}}"), "add_host leads away"),
        ("L041", task("{block: [{block: [{ping: {}, delegate_to: db}]}]}"), "delegate_to leads away"),
        ("L041", task("{block: [{ping: {}}], always: [{ping: {}, delegate_to: db}]}"), "delegate_to leads away"),
        (
            "L041",
            "- hosts: target\n  vars: {ansible_connection: local}\n  tasks: []\n",
            "says how the target is reached",
        ),
        ("L041", task("{set_fact: {ansible_host: db}}"), "ansible_host says how the target is reached"),
        ("L041", task("{ping: {}, vars: {ansible_ssh_common_args: -oX=y}}"), "says how the target is reached"),
        ("L041", "- hosts: target\n  vars_prompt: [{name: x}]\n  tasks: []\n", "vars_prompt leads away"),
        ("L042", task("{raw: id}"), "raw shows nothing before it acts"),
        ("L042", task("{ansible.builtin.raw: id}"), "raw shows nothing before it acts"),
        ("L042", task("{ansible.builtin.raw: {}}"), "raw shows nothing before it acts"),
        ("L042", task("{block: [], rescue: [{raw: id}]}"), "raw shows nothing before it acts"),
        ("L042", task("{ping: {}, check_mode: false}"), "check_mode may be off: then it acts while it is only shown"),
        ("L042", task("{ping: {}, check_mode: '{{ x }}'}"), "check_mode may be off"),
        ("L042", task("{ping: {}, async: 9, poll: 0}"), "poll: 0 goes on before it is done"),
        ("L041", "- hosts: target\n  remote_user: root\n  tasks: []\n", "remote_user leads away"),
        ("L044", task("{script: /bin/x, changed_when: true}"), "is outside of the playbook's folder"),
        ("L042", task("{shell: restart-it}"), "whether this command changes anything is never said"),
        ("L042", task("{command: {argv: [restart-it]}}"), "whether this command changes anything is never said"),
        ("L043", task("{debug: {msg: \"{{ lookup('pipe', 'id') }}\"}}"), "lookup pipe reads or runs something"),
        ("L043", task('{debug: {msg: \'{{ query("ansible.builtin.pipe", "id") }}\'}}'), "pipe reads or runs"),
        ("L043", task("{debug: {msg: \"{{ q('env', 'HOME') }}\"}}"), "lookup env reads or runs something"),
        ("L043", task("{debug: {msg: '{{ lookup(what, 1) }}'}}"), "which lookup it is cannot be decided"),
        ("L043", task("{ping: {}, when: \"lookup('url', 'http://x') == 1\"}"), "lookup url reads or runs"),
        ("L043", task("{ping: {}, with_lines: id}"), "with_lines is a lookup that leads outside"),
        ("L043", task("{ping: {}, with_pipe: id}"), "with_pipe is a lookup that leads outside"),
        ("L044", task("{include_tasks: /etc/x.yml}"), "is outside of the playbook's folder"),
        ("L044", task("{include_tasks: {file: ../x.yml}}"), "'../x.yml' is outside of the playbook's folder"),
        ("L044", task("{include_tasks: gone.yml}"), "'gone.yml' is not in the playbook's folder"),
        ("L044", task("{import_tasks: '{{ x }}.yml'}"), "which file it is cannot be decided"),
        ("L044", task("{include_vars: {dir: /etc}}"), "is outside of the playbook's folder"),
        ("L044", task("{copy: {src: /etc/shadow, dest: /x}}"), "is outside of the playbook's folder"),
        ("L044", task("{copy: {src: '{{ item }}', dest: /x}}"), "which file it is cannot be decided"),
        ("L044", task("{copy: src=/etc/shadow dest=/x}"), "is outside of the playbook's folder"),
        ("L044", task("{template: {src: gone.j2, dest: /x}}"), "'gone.j2' is not in the playbook's folder"),
        ("L044", task("{include_role: {name: web}}"), "there is no role 'web' in play/roles/"),
        ("L044", "- hosts: target\n  roles: [{role: web}, /etc/x]\n", "there is no role 'web'"),
        ("L044", "- hosts: target\n  vars_files: [/etc/x.yml]\n  tasks: []\n", "is outside of the playbook's folder"),
        ("L044", "- hosts: target\n  tasks: []\n- import_playbook: ../other.yml\n", "is outside of the playbook's"),
        ("L046", task("{debug: {msg: '{{ input_untie }}'}}"), "there is no input untie - use one of input_unit"),
        ("L046", task("{shell: 'x {{ input_unit }}', changed_when: false}"), "is part of a command's text"),
        ("L046", task("{command: {cmd: 'x {{ input_unit }}'}, changed_when: false}"), "is part of a command's text"),
    ],
)
def test_a_playbook_that_goes_its_own_way_is_refused(rule: str, play: str, says: str) -> None:
    problems = judged(example(play))

    assert rules(problems) == {rule}, problems
    assert any(says in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("rule", "name", "data", "says"),
    [
        ("L041", "group_vars__all.yml", b"ansible_connection: local\n", "play/group_vars/all.yml, line 1"),
        ("L041", "more.yml", b"- {ping: {}, delegate_to: localhost}\n", "play/more.yml, line 1: delegate_to"),
        ("L040", "vars.yml", b"a: &x 1\n", "play/vars.yml, line 1: anchors are not allowed"),
        ("L043", "app.j2", b"x={{ lookup('pipe', 'id') }}\n", "play/app.j2, line 1: lookup pipe"),
        ("L043", "library__mine.py", b"", "play/library/mine.py would run beside the playbook"),
        ("L043", "callback_plugins__x.txt", b"", "would run beside the playbook"),
        ("L043", "ansible.cfg", b"[defaults]\n", "play/ansible.cfg would run beside the playbook, or says"),
        ("L043", "hosts.json", b"{}", "play/hosts.json would run beside"),
        ("L043", "inventory", b"web\n", "play/inventory would run beside"),
        ("L043", "secret.txt", b"$ANSIBLE_VAULT;1.1;AES256\n00\n", "is encrypted by ansible-vault"),
    ],
)
def test_every_file_of_the_folder_counts_whoever_includes_it(rule: str, name: str, data: bytes, says: str) -> None:
    problems = judged(example(task("{ping: {}}"), **{name: data}))

    assert rules(problems) == {rule}, problems
    assert any(says in problem for problem in problems), problems


def test_what_is_carried_to_the_target_may_be_anything_and_is_never_included() -> None:
    data = {
        "files__compose.yml": b"a: &x 1\nb: *x\nports: [!x 1]\n",
        "files__app.ini": b"",
        "templates__x.py": b"x={{ y }}\n",
    }
    assert judged(example(task("{copy: {src: compose.yml, dest: /x}}"), **data)) == []

    for include in (
        "include_tasks: files/compose.yml",
        "include_vars: {dir: files}",
        "include_vars: {dir: templates/}",
    ):
        problems = judged(example(task(f"{{{include}}}"), **data))
        assert rules(problems) == {"L044"}
        assert "is data for the target" in problems[0]


def test_a_playbook_has_a_folder_of_its_own_and_is_there() -> None:
    moved = example(task("{ping: {}}"), Edit("diagnose", "playbook: play/site.yml", "playbook: site.yml"))
    assert rules(said(moved.text, moved.folder)) == {"L022"}
    problems = said(moved.text, {**moved.folder, "site.yml": b"- hosts: target\n  tasks: []\n"})
    assert "site.yml has no folder of its own" in problems[0]


GOOD = """\
- name: All that a playbook usually does
  hosts: target
  become: true
  vars_files: [vars.yml]
  roles: [web]
  pre_tasks:
    - {name: Fact, set_fact: {port: 80}}
  tasks:
    - {name: Copy, ansible.builtin.copy: {src: app.conf, dest: /etc/app.conf}, notify: Reload}
    - {name: On the host, copy: {src: /etc/a, dest: /etc/b, remote_src: true}}
    - {name: Template, template: {src: app.j2, dest: "/etc/{{ input_unit }}.conf"}}
    - {name: Text, copy: {content: "{{ lookup('file', 'app.conf') }}", dest: /x}}
    - {name: Words, command: {argv: [reload, "{{ input_unit }}"]}, changed_when: false}
    - {name: Once, shell: make-it, args: {creates: /made}}
    - {name: More, include_tasks: more.yml}
    - {name: Each, debug: {msg: "{{ item }}"}, loop: [1, 2]}
  handlers:
    - {name: Reload, service: {name: app, state: reloaded}}
"""


def test_a_usual_playbook_is_clean() -> None:
    files = {
        "vars.yml": b"level: info\n",
        "more.yml": b"- {name: Ping, ping: {}}\n",
        "templates__app.j2": b"{{ level }}\n",
    }
    usual = example(GOOD, **files, **{"roles__web__tasks__main.yml": b"- {name: Ping, ping: {}}\n"})

    assert judged(usual) == []
