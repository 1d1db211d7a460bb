"""Bulk decoding gives the same numbers as another decoder does, for every type, and refuses what is damaged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from saferule_ros.recording.errors import CdrError
from saferule_ros.recording.layout import batches, layout_of
from saferule_ros.recording.message_types import NUMBERS, known_definition, leaf_paths, parse_types

STORE = get_typestore(Stores.ROS2_JAZZY)
JOINT_STATE = "sensor_msgs/msg/JointState"
TYPES = [
    JOINT_STATE, "sensor_msgs/msg/Imu", "nav_msgs/msg/Odometry", "sensor_msgs/msg/LaserScan", "geometry_msgs/msg/Twist",
    "std_msgs/msg/Float32MultiArray", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Bool", "std_msgs/msg/Empty",
    "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/PointCloud2", "diagnostic_msgs/msg/DiagnosticArray",
]  # fmt: skip


def sample(name: str, rng: np.random.Generator, length: int = 3):
    """A message of a type with random numbers, texts, and `length` entries in every sequence."""
    return STORE.types[name](
        **{field: value_of(kind, rng, length) for field, kind in STORE.get_msgdef(name).fields if field[0] != "_"}
    )


def value_of(kind, rng, length):
    node, about = kind
    if node.name == "BASE":
        return base(about[0], rng)
    if node.name == "NAME":
        return sample(about, rng, length)
    inner, count = about
    size = length if node.name == "SEQUENCE" or not count else count
    if inner[0].name == "BASE" and inner[1][0] != "string":
        return np.array([base(inner[1][0], rng) for _ in range(size)], inner[1][0].replace("octet", "uint8"))
    return [value_of(inner, rng, length) for _ in range(size)]


def base(name, rng):
    if name == "string":
        return "".join(chr(97 + letter) for letter in rng.integers(0, 26, rng.integers(0, 9)))
    if name.startswith("float"):
        return float(np.float32(rng.normal()))
    return bool(rng.integers(2)) if name == "bool" else int(rng.integers(0, 100))


def types_of(name):
    definition = known_definition(name)
    return parse_types(name, definition.text)


def by_path(message, path):
    """What a path means in Python."""
    return eval(f"message.{path}", {"message": message})


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("name", TYPES)
def test_every_number_and_text_is_found_where_another_encoder_put_it(name, little_endian):
    rng = np.random.default_rng(1)
    for length in (0, 1, 3):
        message = sample(name, rng, length)
        payload = bytes(STORE.serialize_cdr(message, name, little_endian=little_endian))
        layout = layout_of(payload, types_of(name), name)
        assert layout.fits(payload)
        stack = np.frombuffer(payload, np.uint8).reshape(1, -1)
        for path in layout.leaves:
            assert np.array_equal(layout.column(stack, path)[0], np.atleast_1d(by_path(message, path))), path
        for path, texts in layout.texts.items():
            found = by_path(message, path)
            assert list(texts) == ([found] if isinstance(found, str) else found), path
        wanted = {path for path, _ in leaf_paths(types_of(name), name)}
        if length:
            assert {p.replace("[]", "") for p in wanted} <= {*layout.leaves, *layout.texts}


def joint_states(count, rng, joints=4):
    names = [f"joint_{number}" for number in range(joints)]
    made = []
    for _ in range(count):
        message = sample(JOINT_STATE, rng, joints)
        message.name, message.header.frame_id = list(names), "base"
        made.append(message)
    return made, [bytes(STORE.serialize_cdr(message, JOINT_STATE)) for message in made]


def test_messages_of_several_layouts_and_damaged_ones_are_told_apart():
    rng = np.random.default_rng(2)
    four, four_bytes = joint_states(5, rng)
    two, two_bytes = joint_states(3, rng, 2)
    payloads = [*four_bytes[:3], *two_bytes, b"\x00\x01", *four_bytes[3:], four_bytes[0][:-9]]
    found = batches(payloads, types_of(JOINT_STATE), JOINT_STATE)
    assert [list(batch.rows) for batch in found] == [[0, 1, 2, 7, 8], [3, 4, 5], [6], [9]]
    assert [bool(batch.error) for batch in found] == [False, False, True, True]
    assert np.array_equal(found[0].layout.column(found[0].payloads, "position"), [m.position for m in four])
    assert np.array_equal(found[1].layout.column(found[1].payloads, "effort"), [m.effort for m in two])


def test_joints_in_another_order_are_another_layout():
    rng = np.random.default_rng(3)
    (one, other), _ = joint_states(2, rng)
    other.name = other.name[::-1]
    payloads = [bytes(STORE.serialize_cdr(message, JOINT_STATE)) for message in (one, other)]
    found = batches(payloads, types_of(JOINT_STATE), JOINT_STATE)
    assert [batch.layout.texts["name"] for batch in found] == [tuple(one.name), tuple(other.name)]


def test_a_payload_that_is_cut_at_any_byte_is_refused():
    _, (payload,) = joint_states(1, np.random.default_rng(4))
    types = types_of(JOINT_STATE)
    for length in range(len(payload)):
        with pytest.raises(CdrError):
            layout_of(payload[:length], types, JOINT_STATE)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(TYPES))
def test_arbitrary_bytes_never_do_more_than_be_refused(noise, name):
    for payload in (noise, b"\x00\x01\x00\x00" + noise):
        (batch,) = batches([payload], types_of(name), name)
        assert batch.layout is not None or batch.error


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_messages_never_do_more_than_be_refused(data):
    name = data.draw(st.sampled_from(TYPES))
    payload = bytearray(STORE.serialize_cdr(sample(name, np.random.default_rng(5)), name))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    (batch,) = batches([bytes(payload)], types_of(name), name)
    assert batch.layout is not None or batch.error


def test_numbers_have_their_sizes_on_the_wire():
    assert {name: dtype.itemsize for name, dtype in NUMBERS.items()} == {
        "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "float32": 4,
        "float64": 8, "bool": 1, "byte": 1, "char": 1,
    }  # fmt: skip


def test_bytes_that_a_middleware_leaves_at_the_end_do_no_harm_but_more_is_another_type():
    _, (payload,) = joint_states(1, np.random.default_rng(6))
    types = types_of(JOINT_STATE)
    assert layout_of(payload + b"\xa1" * 12, types, JOINT_STATE).leaves == layout_of(payload, types, JOINT_STATE).leaves
    with pytest.raises(CdrError, match="bytes are left over"):
        layout_of(payload + b"\xa1" * 500, types, JOINT_STATE)
