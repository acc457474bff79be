import time

import pytest

from unimoe.errors import CheckpointError, RequestError
from unimoe.tokens.sandbox import render_template

GROWING = (
    "{{% set ns = namespace(s='aaaaaaaaaa') %}}"
    "{{% for i in range(60) %}}{{% set ns.s = {growth} %}}{{% endfor %}}"
)


def test_the_usual_means_of_chat_templates_work():
    source = """
    {%- if messages[0].role == 'system' and 'x' in messages[0]['content'] %}S{% endif %}
    {%- for m in messages %}
        {%- generation %}{{ loop.index0 % 2 }}{{ m.role ~ ': ' + m['content'] | trim }}
        {%- endgeneration %}
        {%- if loop.first %}{% continue %}{% endif %}|
    {%- endfor %}
    {%- set ns = namespace(n=0) %}{% set ns.n = 2 * 3 + 2 ** 3 %}{{ ns.n }}
    {{- messages | length }}{{ [1, 'é<'] | tojson }}{{ 'a,b'.split(',')[-1] }}
    """
    messages = [{"role": "system", "content": " x "}, {"role": "user", "content": "hi"}]
    assert render_template(source, {"messages": messages}).strip() == (
        'S0system: x1user: hi|142[1, "é<"]b'
    )


def test_templates_may_refuse_a_conversation():
    with pytest.raises(RequestError, match="refuses the conversation: roles must alternate"):
        render_template("{{ raise_exception('roles must alternate') }}", {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append('x') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '%s' % 1 }}",
        "{% include 'secret' %}",
        "{% if %}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{{ [1] | tojson(indent=1000000000) }}",
    ],
)
def test_what_a_template_may_not_or_cannot_do_is_one_error(source):
    with pytest.raises(CheckpointError, match="the chat template fails"):
        render_template(source, {"messages": ["x"]})


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ messages | join | length }}{% endfor %}",
        "{% for i in range(99999) %}{% if messages == messages2 %}{% endif %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 'a'.center(10 ** 10) }}",
        "{{ 'a' | center(10 ** 10) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ lipsum(n=1000000) }}",
        GROWING.format(growth="ns.s ~ ns.s"),
        GROWING.format(growth="ns.s + ns.s"),
        GROWING.format(growth="ns.s * 2"),
        GROWING.format(growth="[ns.s, ns.s]"),
        GROWING.format(growth="(ns.s, ns.s)"),
        GROWING.format(growth="{1: ns.s, 2: ns.s}"),
        GROWING.format(growth="[ns.s, ns.s] | join"),
        GROWING.format(growth="ns.s.replace('a', 'aa')"),
        GROWING.format(growth="ns.s | replace('a', 'aa')"),
        GROWING.format(growth="ns.s | list | string"),
        GROWING.format(growth="ns.s.translate({97: ns.s})"),
        "{{ 'a' | batch(10 ** 10, 'x') | list }}",
        "{{ 1 | round(10 ** 10, 'ceil') }}",
        "{% set s = messages | join %}{% for i in range(99999) %}{% set t = s[:] %}{% endfor %}",
        "{% for i in range(99999) %}" + "own text " * 10_000 + "{% endfor %}",
        "{% for i in range(99999) %}{{ '" + "constant " * 10_000 + "' }}{% endfor %}",
        "{% set x = [" + "messages," * 20_000 + "] %}{% set y = [" + "x," * 20_000 + "] %}",
        "x" * 1_000_000,
        "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}"
        "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    ],
)
def test_no_template_runs_or_grows_for_ever(source):
    variables = {"messages": ["x" * 10_000], "messages2": ["x" * 10_000]}
    start = time.process_time()
    with pytest.raises(CheckpointError):
        render_template(source, variables)
    assert time.process_time() - start < 60


def test_asking_a_thousand_turns_for_their_number_stays_within_the_budget():
    source = (
        "{% for m in messages %}{% if messages is not string and messages | length > loop.index0 %}"
        "{{ messages[loop.index0 - 1].content }}{% endif %}{% endfor %}"
    )
    messages = [{"role": "user", "content": "x" * 1_000}] * 1_000
    assert len(render_template(source, {"messages": messages})) == 1_000_000


def test_a_long_conversation_stays_within_the_budget():
    source = (
        "{% for m in messages %}{{ m.role ~ m.content.split('</think>')[-1] | trim }}"
        "{% if 'x' in m.content and messages | selectattr('role', 'equalto', 'user') | list %}"
        "{{ '\n' }}{% endif %}{% endfor %}"
    )
    turn = {"role": "user", "content": "x" * 10_000}
    assert len(render_template(source, {"messages": [turn] * 100})) == 100 * 10_005
